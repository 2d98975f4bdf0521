// Questions: the log-likelihood of each choice behind its context.
#include "score.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "scored.hpp"

namespace {

// The tokens of a context, and of the choice behind it.
struct Asked {
    std::vector<llama_token> given, wanted;

    int32_t size() const { return static_cast<int32_t>(given.size() + wanted.size()); }
};

// One question for each choice.
using Item = std::vector<Asked>;

[[noreturn]] void refuse(const std::string & sentence) { throw Failure("bad_request", sentence); }

Json read_items(const std::string & path) {
    std::ifstream file(path);
    if (!file) refuse(text_of("cannot read the questions %s: %s", path.c_str(), std::strerror(errno)));
    Json items = Json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (!items.is_array()) refuse(text_of("cannot read the questions %s: they are no list in JSON", path.c_str()));
    return items;
}

// The tokens of a context and of what follows it, split as lm-evaluation-harness splits them. Throws Failure.
Asked encode(const Scored & model, const std::string & where, const std::string & context,
             const std::string & continuation) {
    const std::vector<llama_token> whole = model.engine.tokens(context + continuation, /*special=*/true);
    const size_t n_bos = model.adds_bos ? 1 : 0;
    Asked asked;
    if (context.empty()) {
        asked.given.assign(whole.begin(), whole.begin() + std::ptrdiff_t(std::min(n_bos, whole.size())));
    } else {
        asked.given = model.engine.tokens(context, /*special=*/true);
    }
    if (whole.size() <= asked.given.size()) refuse(where + ": a choice adds no token to its context");
    asked.wanted.assign(whole.begin() + std::ptrdiff_t(asked.given.size()), whole.end());
    if (asked.given.empty()) {
        const llama_token bos = llama_vocab_bos(model.engine.vocab);
        asked.given.push_back(bos >= 0 ? bos : llama_vocab_eos(model.engine.vocab));
    }
    const int64_t n_ctx_train = model.engine.n_ctx_train();
    if (n_ctx_train > 0 && asked.size() > n_ctx_train) {
        throw Failure("context_too_long",
                      text_of("%s: an item of %d tokens is longer than the %lld that %s was trained for", where.c_str(),
                              asked.size(), static_cast<long long>(n_ctx_train), model.path.c_str()));
    }
    return asked;
}

std::vector<Item> encode(const Scored & model, const Json & items) {
    std::vector<Item> encoded;
    for (const Json & item : items) {
        const std::string where = item.at("where").get<std::string>();
        encoded.emplace_back();
        for (const Json & pair : item.at("pairs")) {
            encoded.back().push_back(
                encode(model, where, pair.at(0).get<std::string>(), pair.at(1).get<std::string>()));
        }
    }
    return encoded;
}

// The log-likelihood of a choice, in nats. What this question and the last one begin with is computed once.
double log_likelihood(Scored & model, const Asked & asked) {
    std::vector<llama_token> tokens = asked.given;
    tokens.insert(tokens.end(), asked.wanted.begin(), asked.wanted.end());
    // Behind the last of the given tokens stands what is wanted of the first row.
    const size_t first = asked.given.size() - 1, last = tokens.size() - 1;
    const size_t comparable = std::min(first, model.held.size());
    const auto differing = std::mismatch(tokens.begin(), tokens.begin() + std::ptrdiff_t(comparable), model.held.begin());
    model.keep(static_cast<size_t>(differing.first - tokens.begin()));
    double total = 0;
    while (model.held.size() < last) {
        const size_t place = model.held.size();
        const size_t count = std::min<size_t>(N_BATCH, last - place);
        const size_t begin = std::min(first > place ? first - place : 0, count);
        const auto part = tokens.begin() + std::ptrdiff_t(place);
        model.go_on({part, part + std::ptrdiff_t(count)}, static_cast<int32_t>(begin), static_cast<int32_t>(count));
        for (size_t i = begin; i < count; ++i) total -= model.row(i - begin).nll(tokens[place + i + 1]);
    }
    return total;
}

} // namespace

bool score_choices(const ScoreJob & job, Events & events, const Stop & stop) {
    const Json items = read_items(job.data);
    events.say("size", {{"total", items.size()}, {"per_chunk", nullptr}});
    for (size_t number = 0; number < job.models.size(); ++number) {
        const size_t begin = static_cast<size_t>(job.models[number].begin);
        if (begin >= items.size()) continue;
        Scored model(job.models[number].path, Settings(), events);
        const std::vector<Item> encoded = encode(model, items);
        int32_t n_ctx = 0, n_wanted = 0;
        for (const Item & item : encoded) {
            for (const Asked & asked : item) {
                n_ctx = std::max(n_ctx, asked.size());
                n_wanted = std::max(n_wanted, static_cast<int32_t>(asked.wanted.size()));
            }
        }
        const Settings settings = scoring_settings(job.threads, n_ctx);
        model.engine.open(n_ctx, settings, std::min(settings.n_batch, n_wanted));
        for (size_t index = begin; index < items.size(); ++index) {
            if (stop.told()) return false;
            Json found = Json::array();
            for (const Asked & asked : encoded[index]) found.push_back(log_likelihood(model, asked));
            events.say("choice", {{"model", number}, {"index", index}, {"log_likelihoods", found}});
        }
        model.engine.close();
    }
    return true;
}
