// A text: what models think of its tokens.
#include "score.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>

#include "scored.hpp"

namespace {

// What was found for the tokens of one chunk; `kl` and `same` only beside a reference.
struct Scores {
    std::vector<double> nll, kl;
    std::vector<int> same;
};

using Models = std::vector<std::unique_ptr<Scored>>;

std::string read_text(const std::string & path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Failure("bad_request", text_of("cannot read the text %s: %s", path.c_str(), std::strerror(errno)));
    std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    // As llama.cpp reads a prompt from a file.
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
}

std::vector<llama_token> tokens_of(const std::string & text, const Models & models, int32_t n_ctx) {
    const std::vector<llama_token> tokens = models[0]->engine.tokenize(text, /*special=*/false);
    for (const auto & model : models) {
        if (model->n_vocab != models[0]->n_vocab || model->engine.tokenize(text, /*special=*/false) != tokens) {
            throw Failure("bad_request", model->path + " has another vocabulary than " + models[0]->path);
        }
        const int64_t n_ctx_train = model->engine.n_ctx_train();
        if (n_ctx_train > 0 && n_ctx > n_ctx_train) {
            throw Failure("context_too_long",
                          text_of("chunks of %d tokens are longer than the %lld that %s was trained for", n_ctx,
                                  static_cast<long long>(n_ctx_train), model->path.c_str()));
        }
    }
    if (tokens.size() < 2 * static_cast<size_t>(n_ctx)) {
        throw Failure("bad_request",
                      text_of("the text has %zu tokens, and with chunks of %d at least %d are needed", tokens.size(),
                              n_ctx, 2 * n_ctx));
    }
    return tokens;
}

// The scores of one chunk, of every model in `numbers`; where a reference is among them it is the first.
std::vector<Scores> score_chunk(const Models & models, const std::vector<size_t> & numbers, bool compared,
                                const llama_token * chunk, int32_t n_ctx) {
    const int32_t first = n_ctx / 2;
    std::vector<Scores> scores(numbers.size());
    for (int32_t at = 0; at < n_ctx; at += N_BATCH) {
        const int32_t count = std::min(N_BATCH, n_ctx - at);
        const int32_t begin = std::max(first - at, 0), end = std::min(count, n_ctx - 1 - at);
        // The engine's own rows stay until its next batch: the reference's are still there while the others compute.
        std::vector<Row> expected;
        for (size_t place = 0; place < numbers.size(); ++place) {
            Scored & model = *models[numbers[place]];
            std::vector<llama_token> given(chunk + at, chunk + at + count);
            if (at == 0) model.forget();
            // The model's own token for a beginning, where it wants one.
            if (at == 0 && model.adds_bos) given[0] = llama_vocab_bos(model.engine.vocab);
            model.go_on(given, begin, end);
            for (int32_t i = begin; i < end; ++i) {
                const size_t index = static_cast<size_t>(i - begin);
                const Row row = model.row(index);
                scores[place].nll.push_back(row.nll(chunk[at + i + 1]));
                if (!compared) continue;
                if (place == 0) {
                    expected.push_back(row);
                } else {
                    scores[place].kl.push_back(expected[index].divergence(row));
                    scores[place].same.push_back(expected[index].likeliest() == row.likeliest());
                }
            }
        }
    }
    return scores;
}

Json rounded(const std::vector<double> & values) {
    // Below what float logits can tell; shortens the lines by half.
    Json list = Json::array();
    for (const double value : values) list.push_back(std::round(value * 1e9) / 1e9);
    return list;
}

void say_scores(Events & events, size_t model, int32_t index, const Scores & scores) {
    Json fields = {{"model", model}, {"index", index}, {"nll", rounded(scores.nll)}};
    if (!scores.kl.empty()) {
        fields["kl"] = rounded(scores.kl);
        fields["same"] = scores.same;
    }
    events.say("scores", fields);
}

} // namespace

bool score_text(const ScoreJob & job, Events & events, const Stop & stop) {
    const Settings settings = scoring_settings(job.threads, job.n_ctx);
    const int32_t n_outputs = std::min(settings.n_batch, job.n_ctx - job.n_ctx / 2);
    const std::string text = read_text(job.data);
    Models models;
    for (const ScoreJob::Model & asked : job.models) {
        models.push_back(std::make_unique<Scored>(asked.path, settings, events));
    }
    const std::vector<llama_token> tokens = tokens_of(text, models, job.n_ctx);
    int32_t total = static_cast<int32_t>(tokens.size() / static_cast<size_t>(job.n_ctx));
    total = std::min(total, job.max_chunks.value_or(total));
    events.say("size", {{"total", total}, {"per_chunk", job.n_ctx - 1 - job.n_ctx / 2}});
    int32_t index = total;
    for (size_t number = 0; number < models.size(); ++number) {
        models[number]->engine.open(job.n_ctx, settings, n_outputs);
        index = std::min(index, job.models[number].begin);
    }
    for (; index < total; ++index) {
        if (stop.told()) return false;
        std::vector<size_t> numbers;
        for (size_t number = 0; number < models.size(); ++number) {
            if (index >= job.models[number].begin && number != job.reference) numbers.push_back(number);
        }
        const bool compared = job.reference && !numbers.empty();
        const bool wanted = job.reference && index >= job.models[*job.reference].begin;
        if (compared || wanted) numbers.insert(numbers.begin(), *job.reference);
        const std::vector<Scores> scores =
            score_chunk(models, numbers, compared, tokens.data() + size_t(index) * size_t(job.n_ctx), job.n_ctx);
        for (size_t place = 0; place < numbers.size(); ++place) {
            if (index >= job.models[numbers[place]].begin) say_scores(events, numbers[place], index, scores[place]);
        }
    }
    return true;
}
