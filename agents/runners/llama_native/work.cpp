#include "work.hpp"

#include <algorithm>

namespace {

// Return the index of the largest value, the first of equals. llama.cpp's own greedy sampler first copies every logit
// into a candidate: 0.2 ms for 49,000 tokens, a percent of a small model's time per token.
llama_token largest(const float * values, int32_t count) {
    // Lanes of their own let the compiler use vectors although comparisons of floats may not be reordered.
    constexpr int32_t LANES = 16;
    float best[LANES];
    std::fill(best, best + LANES, -__builtin_inff());
    int32_t at = 0;
    for (; at + LANES <= count; at += LANES) {
        for (int32_t lane = 0; lane < LANES; ++lane) {
            best[lane] = values[at + lane] > best[lane] ? values[at + lane] : best[lane];
        }
    }
    float top = *std::max_element(best, best + LANES);
    for (; at < count; ++at) top = std::max(top, values[at]);
    const float * found = std::find(values, values + count, top);
    return found == values + count ? 0 : static_cast<llama_token>(found - values);
}

llama_sampler * make_sampler(const Settings & settings) {
    llama_sampler * chain = llama_sampler_chain_init(llama_sampler_chain_default_params());
    if (!chain) throw Failure("out_of_memory", "llama.cpp cannot make a sampler");
    llama_sampler_chain_add(chain, llama_sampler_init_temp(static_cast<float>(settings.temperature)));
    llama_sampler_chain_add(chain, llama_sampler_init_dist(static_cast<uint32_t>(settings.seed)));
    return chain;
}

} // namespace

Json Generation::fields() const {
    Json prefill = nullptr;
    if (!batches.empty()) {
        prefill = {{"t0_ns", prefill_begun_ns}, {"t1_ns", batches.back().second}, {"batches", Json::array()}};
        for (const auto & [size, end_ns] : batches) prefill["batches"].push_back(Json::array({size, end_ns}));
    }
    return {
        {"submit_ns", submit_ns}, {"n_prompt", n_prompt},   {"prefill", prefill},
        {"token_ns", token_ns},   {"token_ids", token_ids}, {"stop", stop},
    };
}

Worker::Worker(Engine & engine, const Settings & settings, const Stop & stop)
    : engine(engine), stop(stop), memory(llama_get_memory(engine.context)), ignore_eos(settings.ignore_eos),
      n_batch(llama_n_batch(engine.context)), n_vocab(llama_vocab_n_tokens(engine.vocab)),
      sampler(settings.temperature > 0 ? make_sampler(settings) : nullptr) {}

void Worker::prepare(Tokens depth) {
    const bool kept = depth.count > 0 && prepared_depth == depth.count && can_cut();
    if (!(kept && llama_memory_seq_rm(memory, 0, static_cast<llama_pos>(depth.count), -1))) {
        llama_memory_clear(memory, false);
        std::vector<std::pair<int32_t, int64_t>> untimed;
        prefill(depth, untimed);
        prepared_depth = depth.count;
    }
    if (sampler) llama_sampler_reset(sampler);
}

Generation Worker::request(Tokens tokens, llama_token first, int32_t n_gen, std::optional<int64_t> submit_ns) {
    Generation made;
    made.n_prompt = tokens.count;
    made.batches.reserve(tokens.count / n_batch + 1);
    made.token_ns.reserve(static_cast<size_t>(n_gen) + 1);
    made.token_ids.reserve(static_cast<size_t>(n_gen) + 1);
    made.submit_ns = submit_ns.value_or(now_ns());
    if (tokens.count == 0) {
        decode(first, n_gen, made);
        return made;
    }
    made.prefill_begun_ns = now_ns();
    prefill(tokens, made.batches);
    const llama_token token = sample();
    made.token_ns.push_back(now_ns());
    made.token_ids.push_back(token);
    if (n_gen > 1) {
        if (const char * reason = ending(token, made.token_ns[0])) {
            made.stop = reason;
        } else {
            decode(token, n_gen - 1, made);
        }
    }
    return made;
}

void Worker::prefill(Tokens tokens, std::vector<std::pair<int32_t, int64_t>> & batches) {
    for (size_t begin = 0; begin < tokens.count; begin += n_batch) {
        const int32_t size = static_cast<int32_t>(std::min(n_batch, tokens.count - begin));
        // No positions, no sequence ids, no output flags: llama.cpp then continues sequence 0 and keeps the logits of
        // the last token only.
        if (const int32_t status = llama_decode(engine.context, llama_batch_get_one(tokens.first + begin, size))) {
            throw broken(status);
        }
        // Backends other than the CPU return before they are done.
        llama_synchronize(engine.context);
        batches.emplace_back(size, now_ns());
    }
}

void Worker::decode(llama_token token, int32_t count, Generation & into) {
    const llama_batch single = llama_batch_get_one(&token, 1);
    for (int32_t done = 0; done < count; ++done) {
        if (const int32_t status = llama_decode(engine.context, single)) throw broken(status);
        token = sample();
        const int64_t at_ns = now_ns();
        into.token_ns.push_back(at_ns);
        into.token_ids.push_back(token);
        if (const char * reason = ending(token, at_ns)) {
            into.stop = reason;
            return;
        }
    }
}

llama_token Worker::sample() const {
    return sampler ? llama_sampler_sample(sampler, engine.context, -1)
                   : largest(llama_get_logits_ith(engine.context, -1), n_vocab);
}

const char * Worker::ending(llama_token token, int64_t at_ns) const {
    if (at_ns >= stop.at_ns()) return stop.reason();
    return !ignore_eos && llama_vocab_is_eog(engine.vocab, token) ? "eos" : nullptr;
}

bool Worker::can_cut() const {
    return !(llama_model_n_swa(engine.model) || llama_model_is_recurrent(engine.model) ||
             llama_model_is_hybrid(engine.model));
}

Failure Worker::broken(int32_t status) const {
    // llama.h, llama_decode: 1 no room in the cache, -2 a graph could not be allocated.
    const char * code = status == 1 ? "context_too_long" : status == -2 ? "out_of_memory" : "internal";
    return engine.log.failure(code, text_of("llama_decode failed with status %d", status));
}
