// Requests to a loaded model, timed: prefill in batches, then a token at a time. Inside a timed phase there is nothing
// but llama.cpp, the clock and appending to vectors that have their room already.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "engine.hpp"

struct Generation {
    int64_t submit_ns = 0, prefill_begun_ns = 0;
    std::vector<std::pair<int32_t, int64_t>> batches; // size, end of its computation; empty without a prefill
    std::vector<int64_t> token_ns;
    std::vector<llama_token> token_ids;
    size_t n_prompt = 0;
    const char * stop = "length";

    // The fields of a `generation` event that are known here.
    Json fields() const;
};

// A span of tokens in somebody's vector.
struct Tokens {
    llama_token * first;
    size_t count;
};

// Runs requests on one engine, one after the other.
class Worker {
public:
    Worker(Engine & engine, const Settings & settings, const Stop & stop);

    // Leave exactly `depth` in the context, outside any measurement, and the sampler as new. What an earlier request
    // added behind them is cut off where the memory allows that without loss (not with sliding windows or recurrent
    // states); else they are prefilled anew. Throws Failure.
    void prepare(Tokens depth);

    // Prefill `tokens` and decode up to `n_gen`. With tokens, the first generated one is sampled from the prefill, also
    // when none are asked for, so that a time to first token exists. Without, `first` is what decoding begins with, and
    // each of the `n_gen` is decoded. `submit_ns` is when the request was made, if it began before. Throws Failure.
    Generation request(Tokens tokens, llama_token first, int32_t n_gen, std::optional<int64_t> submit_ns);

private:
    void prefill(Tokens tokens, std::vector<std::pair<int32_t, int64_t>> & batches);
    void decode(llama_token token, int32_t count, Generation & into);
    llama_token sample() const;
    const char * ending(llama_token token, int64_t at_ns) const;
    bool can_cut() const;
    Failure broken(int32_t status) const;

    Engine & engine;
    const Stop & stop;
    llama_memory_t memory;
    bool ignore_eos;
    size_t n_batch;
    int32_t n_vocab;
    llama_sampler * sampler = nullptr; // null: greedy
    std::optional<size_t> prepared_depth;
};
