// Stands in for llama.cpp's own common library, which takes minutes to compile: the few things that
// tools/perplexity/perplexity.cpp asks of it. That file itself is compiled as it comes.
#pragma once

#include "llama-cpp.h"
#include "llama.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#define LOG(...) std::printf(__VA_ARGS__)
#define LOG_INF(...) std::printf(__VA_ARGS__)
#define LOG_WRN(...) std::fprintf(stderr, __VA_ARGS__)
#define LOG_ERR(...) std::fprintf(stderr, __VA_ARGS__)
#define LOG_DBG(...) ((void) 0)

enum llama_example { LLAMA_EXAMPLE_PERPLEXITY };

struct common_params {
    std::string model, prompt, logits_file;
    int32_t n_ctx = 512, n_batch = 2048, n_parallel = 1, n_chunks = -1, n_threads = 1;
    int32_t ppl_stride = 0, ppl_output_type = 0;
    size_t hellaswag_tasks = 400, winogrande_tasks = 0, multiple_choice_tasks = 0;
    bool hellaswag = false, winogrande = false, multiple_choice = false, kl_divergence = false;
    bool escape = true, kv_unified = false;
    ggml_numa_strategy numa = GGML_NUMA_STRATEGY_DISABLED;
};

inline void common_init() {}

inline void common_memory_breakdown_print(llama_context *) {}

inline std::string common_params_get_system_info(const common_params &) { return llama_print_system_info(); }

inline bool common_params_parse(int argc, char ** argv, common_params & params, llama_example) {
    for (int i = 1; i < argc; i++) {
        const std::string flag = argv[i];
        if (flag == "--kl-divergence") {
            params.kl_divergence = true;
            continue;
        }
        if (++i == argc) {
            return false;
        }
        if (flag == "-m") {
            params.model = argv[i];
        } else if (flag == "-c") {
            params.n_ctx = std::atoi(argv[i]);
        } else if (flag == "-t") {
            params.n_threads = std::atoi(argv[i]);
        } else if (flag == "--chunks") {
            params.n_chunks = std::atoi(argv[i]);
        } else if (flag == "--kl-divergence-base") {
            params.logits_file = argv[i];
        } else if (flag == "-f") {
            std::ifstream file(argv[i]);
            params.prompt.assign(std::istreambuf_iterator<char>(file), {});
            if (!params.prompt.empty() && params.prompt.back() == '\n') {
                params.prompt.pop_back();
            }
        } else {
            return false;
        }
    }
    return true;
}

struct common_init_result {
    llama_model_ptr owned_model;
    llama_context_ptr owned_context;
    llama_model * model() { return owned_model.get(); }
    llama_context * context() { return owned_context.get(); }
};

inline std::unique_ptr<common_init_result> common_init_from_params(const common_params & params) {
    auto made = std::make_unique<common_init_result>();
    made->owned_model.reset(llama_model_load_from_file(params.model.c_str(), llama_model_default_params()));
    if (made->owned_model) {
        auto wanted = llama_context_default_params();
        wanted.n_ctx = params.n_ctx;
        wanted.n_batch = params.n_batch;
        wanted.n_seq_max = params.n_parallel;
        wanted.kv_unified = params.kv_unified;
        wanted.n_threads = wanted.n_threads_batch = params.n_threads;
        made->owned_context.reset(llama_init_from_model(made->model(), wanted));
    }
    return made;
}

inline std::vector<llama_token> common_tokenize(
        const llama_context * ctx, const std::string & text, bool add_special, bool parse_special = false) {
    const auto * vocab = llama_model_get_vocab(llama_get_model(ctx));
    std::vector<llama_token> tokens(text.size() + 8);
    const int32_t n =
        llama_tokenize(vocab, text.data(), text.size(), tokens.data(), tokens.size(), add_special, parse_special);
    tokens.resize(n < 0 ? 0 : n);
    return tokens;
}

struct common_batch {
    struct token {
        llama_token id;
        llama_pos pos;
        std::vector<llama_seq_id> seq_ids;
        bool output;
    };

    std::vector<token> tokens;
    llama_batch_ext_ptr batch;

    explicit common_batch(llama_context * ctx) : batch(llama_batch_ext_init(ctx)) {}

    void clear() { tokens.clear(); }
    int32_t size() const { return (int32_t) tokens.size(); }
    void set_output(int32_t i, bool value) { tokens[i].output = value; }
    llama_batch_ext * get() { return get_sub_batch(0, size()); }

    void add(llama_token id, llama_pos pos, llama_seq_id seq, bool output) { tokens.push_back({ id, pos, { seq }, output }); }
    void add(llama_token id, llama_pos pos, const std::vector<llama_seq_id> & seqs, bool output) {
        tokens.push_back({ id, pos, seqs, output });
    }

    llama_batch_ext * get_sub_batch(int32_t at, int32_t n) {
        auto * made = batch.get();
        llama_batch_ext_clear(made);
        for (int32_t i = at; i < at + n; i++) {
            const auto & t = tokens[i];
            const std::array<llama_pos, 4> pos = { t.pos, 0, 0, 0 };
            const int32_t index = llama_batch_ext_add_token(made, t.seq_ids[0], t.id);
            llama_batch_ext_set_pos(made, index, pos.data());
            for (size_t s = 1; s < t.seq_ids.size(); s++) {
                llama_batch_ext_add_seq(made, index, t.seq_ids[s]);
            }
            llama_batch_ext_set_output_logits(made, index, t.output);
        }
        return made;
    }
};
