#include "engine.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <regex>
#include <utility>

#include "ggml-cpu.h"

namespace {

struct Cause {
    const char * code;
    std::vector<const char *> texts;
};

// What llama.cpp's log says (src/llama-model.cpp, llama-context.cpp, ggml-alloc.c) -> the code of the failure.
const Cause CAUSES[] = {
    {"unsupported_model",
     {"model architecture", "unknown pre-tokenizer", "unknown tokenizer", "only supports up to version"}},
    {"out_of_memory",
     {"failed to allocate", "unable to allocate", "allocate memory", "insufficient memory", "out of memory",
      "bad_alloc"}},
    {"bad_request", {"requires flash_attn", "requires flash attention", "does not divide", "different k ("}},
};

const std::pair<const char *, ggml_type> CACHE_TYPES[] = {
    {"f32", GGML_TYPE_F32},   {"f16", GGML_TYPE_F16},   {"bf16", GGML_TYPE_BF16},
    {"q4_0", GGML_TYPE_Q4_0}, {"q4_1", GGML_TYPE_Q4_1}, {"q5_0", GGML_TYPE_Q5_0},
    {"q5_1", GGML_TYPE_Q5_1}, {"q8_0", GGML_TYPE_Q8_0}, {"iq4_nl", GGML_TYPE_IQ4_NL},
};

// Every bit of llama_token_attr but NORMAL: a token with none of them is a piece of text.
constexpr int SPECIAL = ~LLAMA_TOKEN_ATTR_NORMAL;

// ggml's abort callback takes no user data.
Events * aborting_events;
const Log * aborting_log;

void say_abort(const char * text) {
    const char * place = std::strrchr(text, '/');
    try {
        const Failure failure =
            aborting_log->failure("internal", text_of("llama.cpp aborted at %s", place ? place + 1 : text));
        aborting_events->fail(failure.code, failure.what());
    } catch (const Unheard &) {
    }
}

} // namespace

Log::Log() { listen(); }

void Log::listen() { llama_log_set(take, this); }

void Log::take(ggml_log_level level, const char * text, void * self) {
    // Debug lines come in thousands while a context is made; nothing of them is used.
    if (level < GGML_LOG_LEVEL_INFO) return;
    Log & log = *static_cast<Log *>(self);
    const std::lock_guard<std::mutex> guard(log.lock);
    log.all += text;
    if (level == GGML_LOG_LEVEL_WARN || level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
    if (level == GGML_LOG_LEVEL_ERROR) {
        std::string line = text;
        line.erase(line.find_last_not_of(" \n") + 1);
        log.errors.push_back(line);
    }
}

Failure Log::failure(const std::string & code, const std::string & sentence) const {
    const std::lock_guard<std::mutex> guard(lock);
    for (const std::string & error : errors) {
        std::string lower = error;
        std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return std::tolower(c); });
        for (const Cause & cause : CAUSES) {
            for (const char * text : cause.texts) {
                if (lower.find(text) != std::string::npos) return Failure(cause.code, sentence + ": " + error);
            }
        }
    }
    return Failure(code, errors.empty() ? sentence : sentence + ": " + errors.front());
}

std::vector<std::vector<std::string>> Log::find(const char * hint, const char * pattern) const {
    const std::lock_guard<std::mutex> guard(lock);
    const std::regex regex(pattern);
    std::vector<std::vector<std::string>> found;
    for (size_t begin = 0, end; begin < all.size(); begin = end + 1) {
        end = std::min(all.find('\n', begin), all.size());
        const std::string line = all.substr(begin, end - begin);
        std::smatch match;
        if (line.find(hint) != std::string::npos && std::regex_search(line, match, regex)) {
            found.emplace_back(match.begin() + 1, match.end());
        }
    }
    return found;
}

ggml_type cache_type(const std::string & name) {
    std::string all;
    for (const auto & [known, type] : CACHE_TYPES) {
        if (name == known) return type;
        all += (all.empty() ? "" : ", ") + std::string(known);
    }
    throw Failure("bad_request", text_of("unknown cache type '%s': one of %s", name.c_str(), all.c_str()));
}

Engine::Engine(Events & events) {
    aborting_events = &events;
    aborting_log = &log;
    // In place of ggml's own callback, which starts a debugger on the process if there is one.
    ggml_set_abort_callback(say_abort);
    llama_backend_init();
}

void Engine::check_file(const std::string & path) const {
    FILE * file = fopen(path.c_str(), "rb");
    char magic[4] = {};
    // A folder can be opened, but not read.
    const size_t size = file ? fread(magic, 1, sizeof magic, file) : 0;
    if (!file || ferror(file)) {
        throw Failure("bad_request", text_of("cannot read the model %s: %s", path.c_str(), std::strerror(errno)));
    }
    fclose(file);
    if (std::memcmp(magic, "GGUF", sizeof magic) != 0) {
        const Json begin = std::string(magic, size);
        throw Failure("bad_model", text_of("%s is not a GGUF file: it begins with %s", path.c_str(),
                                           begin.dump(-1, ' ', true, Json::error_handler_t::replace).c_str()));
    }
}

void Engine::load(const std::string & path, const Settings & settings, bool vocab_only) {
    log.listen();
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = settings.n_gpu_layers;
    params.load_mode = settings.mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
    params.vocab_only = vocab_only;
    model = llama_model_load_from_file(path.c_str(), params);
    if (!model) throw log.failure("bad_model", "llama.cpp cannot load " + path);
    vocab = llama_model_get_vocab(model);
}

void Engine::unload() {
    llama_model_free(model);
    model = nullptr;
    vocab = nullptr;
}

void Engine::close() {
    llama_free(context);
    context = nullptr;
    ggml_threadpool_free(pool);
    pool = nullptr;
    unload();
}

int64_t Engine::n_ctx_train() const {
    char buffer[64];
    if (llama_model_meta_val_str(model, "general.architecture", buffer, sizeof buffer) < 0) return 0;
    const std::string key = std::string(buffer) + ".context_length";
    const bool found = llama_model_meta_val_str(model, key.c_str(), buffer, sizeof buffer) > 0;
    return found ? std::strtoll(buffer, nullptr, 10) : 0;
}

void Engine::open(int64_t n_ctx, const Settings & settings, int32_t n_outputs) {
    log.listen();
    llama_context_params params = llama_context_default_params();
    params.n_ctx = static_cast<uint32_t>(n_ctx);
    params.n_batch = static_cast<uint32_t>(settings.n_batch);
    params.n_ubatch = static_cast<uint32_t>(settings.n_ubatch);
    params.type_k = cache_type(settings.cache_type_k);
    params.type_v = cache_type(settings.cache_type_v);
    params.flash_attn_type = settings.flash_attn == "on"    ? LLAMA_FLASH_ATTN_TYPE_ENABLED
                             : settings.flash_attn == "off" ? LLAMA_FLASH_ATTN_TYPE_DISABLED
                                                            : LLAMA_FLASH_ATTN_TYPE_AUTO;
    // Of a prompt only the last token is ever looked at: without this llama.cpp reserves room for the logits of a
    // whole batch, which for a large vocabulary is more than the model's own work needs.
    params.n_outputs_max = static_cast<uint32_t>(n_outputs);
    if (settings.threads) params.n_threads = params.n_threads_batch = *settings.threads;
    if (settings.threads_batch) params.n_threads_batch = *settings.threads_batch;
    context = llama_init_from_model(model, params);
    if (!context) {
        throw log.failure("internal",
                          text_of("llama.cpp cannot make a context of %lld tokens", static_cast<long long>(n_ctx)));
    }
    attach_threads();
}

void Engine::attach_threads() {
    // Without a pool of its own, a build without OpenMP starts its threads anew for every token.
    const int n_threads = std::max(llama_n_threads(context), llama_n_threads_batch(context));
    ggml_threadpool_params params = ggml_threadpool_params_default(n_threads);
    pool = ggml_threadpool_new(&params);
    if (!pool) throw Failure("out_of_memory", text_of("llama.cpp cannot start %d threads", n_threads));
    llama_attach_threadpool(context, pool, nullptr);
}

std::vector<llama_token> Engine::tokens(const std::string & text, bool special) const {
    std::vector<llama_token> tokens(text.size() + 8);
    const int32_t count = llama_tokenize(vocab, text.data(), static_cast<int32_t>(text.size()), tokens.data(),
                                         static_cast<int32_t>(tokens.size()), true, special);
    if (count < 0) throw Failure("bad_request", "the text '" + text.substr(0, 40) + "' cannot be tokenized");
    tokens.resize(static_cast<size_t>(count));
    return tokens;
}

std::vector<llama_token> Engine::tokenize(const std::string & text, bool special) const {
    std::vector<llama_token> found = tokens(text, special);
    if (found.empty()) throw Failure("bad_request", "the prompt '" + text.substr(0, 40) + "' gives no tokens");
    return found;
}

std::string Engine::text(const std::vector<llama_token> & tokens) const {
    std::string text;
    char piece[1024];
    for (const llama_token token : tokens) {
        const int32_t size = llama_token_to_piece(vocab, token, piece, sizeof piece, 0, true);
        text.append(piece, static_cast<size_t>(std::max(size, 0)));
    }
    return text;
}

std::vector<llama_token> Engine::synthetic(size_t count, uint64_t seed) const {
    const uint64_t size = static_cast<uint64_t>(llama_vocab_n_tokens(vocab));
    std::vector<llama_token> tokens;
    tokens.reserve(count);
    uint64_t state = seed;
    for (size_t tries = 0; tries < 1000 * count && tokens.size() < count && size > 0; ++tries) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const llama_token token = static_cast<llama_token>((state >> 33) % size);
        if ((llama_vocab_get_attr(vocab, token) & SPECIAL) == 0) tokens.push_back(token);
    }
    if (tokens.size() < count) throw Failure("bad_model", "the model's vocabulary has no plain tokens");
    return tokens;
}
