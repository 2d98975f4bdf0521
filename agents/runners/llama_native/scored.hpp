// A model whose opinion of given tokens is asked: rows of logits, and what a row says of a token.
#pragma once

#include "engine.hpp"

// Tokens that are computed at once: bounds the memory for logits, whatever the length of the context.
constexpr int32_t N_BATCH = 512;

// A row of logits, and the logarithm of what their exponentials add up to.
struct Row {
    const float * logits;
    size_t size;
    double log_sum;

    Row(const float * logits, size_t size);
    // The negative log-likelihood of a token, in nats.
    double nll(llama_token token) const { return log_sum - logits[token]; }
    size_t likeliest() const;
    // KL(this || other) in nats.
    double divergence(const Row & other) const;
};

// `engine.open` makes the context; before that there is only the vocabulary.
class Scored {
public:
    Scored(const std::string & path, const Settings & settings, Events & events);

    // Begin anew.
    void forget();
    // Keep the first `count` of the tokens that were computed, or none where the memory cannot forget the end alone.
    void keep(size_t count);
    // Go on with tokens, N_BATCH at most; logits are kept for those from index `begin` to before `end`, until the next
    // call. Throws Failure.
    void go_on(const std::vector<llama_token> & part, int32_t begin, int32_t end);
    // The `index`th of the rows that were kept. Throws Failure.
    Row row(size_t index) const;

    Engine engine;
    std::string path;
    size_t n_vocab = 0;
    bool adds_bos = false;
    // What was computed and not forgotten.
    std::vector<llama_token> held;
};

// The settings that models are scored with.
Settings scoring_settings(std::optional<int32_t> threads, int32_t n_ctx);
