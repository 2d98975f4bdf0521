// llama.cpp through its C API: a model, a context, and what they log of themselves.
#pragma once

#include <mutex>
#include <string>
#include <vector>

#include "events.hpp"
#include "ggml.h"
#include "job.hpp"
#include "llama.h"

// What llama.cpp logs. Warnings and errors go to stderr at once; the rest is kept, for it says what was done.
class Log {
public:
    Log();
    // Take what is logged from now on: with several engines in a process, the one that works says why it failed.
    void listen();
    // Make a Failure of what was logged as an error; `code` where the text tells nothing better.
    Failure failure(const std::string & code, const std::string & sentence) const;
    // Return the groups of every match of a regular expression, in the lines that hold `hint`.
    std::vector<std::vector<std::string>> find(const char * hint, const char * pattern) const;

private:
    static void take(ggml_log_level level, const char * text, void * self);
    mutable std::mutex lock;
    std::string all;
    std::vector<std::string> errors;
};

// One model and one context of llama.cpp. What they hold is freed by the end of the process: that costs no time.
class Engine {
public:
    // Where ggml can only abort the process, the failure is said through `events` just before.
    explicit Engine(Events & events);

    // Refuse what is plainly no GGUF file, before the engine touches it. Throws Failure.
    void check_file(const std::string & path) const;
    // Load the model, or only its vocabulary and metadata. Throws Failure.
    void load(const std::string & path, const Settings & settings, bool vocab_only = false);
    void unload();
    // Free context, threads and model: before another one is loaded.
    void close();
    // The context length that the model was trained for, 0 if it does not say.
    int64_t n_ctx_train() const;
    // Make the context for `n_ctx` tokens, with its threads; a batch keeps the logits of at most `n_outputs` tokens. Throws
    // Failure.
    void open(int64_t n_ctx, const Settings & settings, int32_t n_outputs = 1);

    // A text's tokens, with the special tokens that the model wants in front; `special`: markup in it is read as such.
    // Throws Failure; `tokenize` also where there are none.
    std::vector<llama_token> tokens(const std::string & text, bool special) const;
    std::vector<llama_token> tokenize(const std::string & text, bool special = true) const;
    std::string text(const std::vector<llama_token> & tokens) const;
    // Make `count` tokens of plain text, the same for a seed on every device: agents/PROTOCOL.md. Throws Failure.
    std::vector<llama_token> synthetic(size_t count, uint64_t seed) const;

    Log log;
    llama_model * model = nullptr;
    llama_context * context = nullptr;
    const llama_vocab * vocab = nullptr;

private:
    void attach_threads();
    ggml_threadpool_t pool = nullptr;
};

// The type of a key-value cache by its name, as llama-bench's -ctk takes it. Throws Failure.
ggml_type cache_type(const std::string & name);
