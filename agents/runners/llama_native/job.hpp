// The jobs that the host writes. One that runs a workload: `model`, `n_ctx_train` and the fields of a Workload, Settings
// and Repeat of melt/records.py. One that scores: agents/PROTOCOL.md, "Scoring".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

struct Workload {
    std::string kind = "synthetic";
    int32_t n_prompt = 0, n_gen = 0, n_depth = 0;
    double duration_s = 0;
    std::vector<std::string> prompts;
};

struct Settings {
    std::optional<int32_t> threads, threads_batch;
    int32_t n_batch = 2048, n_ubatch = 512;
    std::string cache_type_k = "f16", cache_type_v = "f16";
    std::string flash_attn = "auto";
    int32_t n_gpu_layers = 0;
    bool mmap = true;
    std::string page_cache = "warm";
    uint64_t seed = 0;
    double temperature = 0;
    bool ignore_eos = true;
};

struct Repeat {
    int32_t warmup = 1, repetitions = 5;
};

struct Job {
    std::string model;
    int64_t n_ctx_train = 0;
    Workload workload;
    Settings settings;
    Repeat repeat;
};

// Models and what they are scored on: of kind `text` or `choices`. Of each, chunks or questions from `begin` on are
// wanted. Of texts alone: `reference` is the number of the model that the others are held against.
struct ScoreJob {
    struct Model {
        std::string path;
        int32_t begin = 0;
    };
    std::string kind;
    std::vector<Model> models;
    std::string data;
    std::optional<size_t> reference;
    int32_t n_ctx = 0;
    std::optional<int32_t> max_chunks, threads;
};

// Read and check a job; what it leaves out has the same default as in melt/records.py. Throws Failure bad_request.
Job read_job(const char * path);
ScoreJob read_score_job(const char * path);
