#include "scored.hpp"

#include <algorithm>
#include <cmath>

Row::Row(const float * logits, size_t size) : logits(logits), size(size) {
    const float most = *std::max_element(logits, logits + size);
    double sum = 0;
    for (size_t i = 0; i < size; ++i) sum += std::exp(logits[i] - most);
    log_sum = most + std::log(sum);
}

size_t Row::likeliest() const { return static_cast<size_t>(std::max_element(logits, logits + size) - logits); }

double Row::divergence(const Row & other) const {
    // With p normalized it is sum p * (x - y) - (log_sum - other's): only differences of logits are rounded to float,
    // not log-probabilities, whose error would be a hundredth of a small KL.
    const float shift = static_cast<float>(log_sum);
    double whole = 0, expected = 0;
    for (size_t i = 0; i < size; ++i) {
        const double p = std::exp(logits[i] - shift);
        whole += p;
        expected += p * (logits[i] - other.logits[i]);
    }
    return expected / whole + other.log_sum - log_sum;
}

Scored::Scored(const std::string & path, const Settings & settings, Events & events) : engine(events), path(path) {
    engine.check_file(path);
    engine.load(path, settings);
    n_vocab = static_cast<size_t>(llama_vocab_n_tokens(engine.vocab));
    adds_bos = llama_vocab_get_add_bos(engine.vocab);
    if (llama_vocab_get_add_eos(engine.vocab)) {
        throw Failure("unsupported_model", path + " ends every text with a token of its own: not scored");
    }
}

void Scored::forget() {
    llama_memory_clear(llama_get_memory(engine.context), true);
    held.clear();
}

void Scored::keep(size_t count) {
    const bool kept =
        count > 0 && llama_memory_seq_rm(llama_get_memory(engine.context), 0, static_cast<llama_pos>(count), -1);
    kept ? held.resize(count) : forget();
}

void Scored::go_on(const std::vector<llama_token> & part, int32_t begin, int32_t end) {
    const int32_t count = static_cast<int32_t>(part.size());
    llama_batch batch = llama_batch_init(count, 0, 1);
    batch.n_tokens = count;
    for (int32_t i = 0; i < count; ++i) {
        batch.token[i] = part[static_cast<size_t>(i)];
        batch.pos[i] = static_cast<llama_pos>(held.size()) + i;
        batch.n_seq_id[i] = 1;
        batch.seq_id[i][0] = 0;
        batch.logits[i] = begin <= i && i < end;
    }
    const int32_t status = llama_decode(engine.context, batch);
    llama_batch_free(batch);
    if (status != 0) {
        throw engine.log.failure("internal", text_of("llama.cpp cannot compute %s: status %d", path.c_str(), status));
    }
    held.insert(held.end(), part.begin(), part.end());
}

Row Scored::row(size_t index) const {
    const Row row(llama_get_logits(engine.context) + index * n_vocab, n_vocab);
    if (!std::isfinite(row.log_sum)) throw Failure("bad_model", path + " computes logits that are no numbers");
    return row;
}

Settings scoring_settings(std::optional<int32_t> threads, int32_t n_ctx) {
    Settings settings;
    settings.threads = threads;
    settings.n_batch = settings.n_ubatch = std::min(N_BATCH, n_ctx);
    return settings;
}
