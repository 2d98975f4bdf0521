#include "job.hpp"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>

#include "events.hpp"

namespace {

constexpr double LIMIT = 2147483648.0; // numbers of a job are below 2^31

[[noreturn]] void refuse(const std::string & sentence) { throw Failure("bad_request", sentence); }

[[noreturn]] void wrong_type(const char * name, const Json & value) {
    const std::string text = value.dump(-1, ' ', true, Json::error_handler_t::replace);
    refuse(text_of("%s has the wrong type: %s", name, text.c_str()));
}

[[noreturn]] void out_of_range(const char * name, const Json & value) {
    refuse(text_of("%s is out of range: %s", name, value.dump().c_str()));
}

// One object of the job, asked for its fields by name; what is absent or null leaves the default as it is.
class Section {
public:
    explicit Section(const Json & values) : values(values) {}

    void read(const char * name, std::string & into) const {
        if (const Json * value = find(name)) {
            if (!value->is_string()) wrong_type(name, *value);
            into = value->get<std::string>();
        }
    }

    void read(const char * name, bool & into) const {
        if (const Json * value = find(name)) {
            if (!value->is_boolean()) wrong_type(name, *value);
            into = value->get<bool>();
        }
    }

    void read(const char * name, double & into) const {
        if (const Json * value = find(name)) {
            if (!value->is_number()) wrong_type(name, *value);
            const double number = value->get<double>();
            if (!(number >= 0 && number < LIMIT)) out_of_range(name, *value);
            into = number;
        }
    }

    void read(const char * name, int32_t & into, int32_t least) const {
        if (const Json * value = find(name)) {
            if (!value->is_number_integer()) wrong_type(name, *value);
            const double number = value->get<double>();
            if (!(number >= least && number < LIMIT)) out_of_range(name, *value);
            into = value->get<int32_t>();
        }
    }

    void read(const char * name, std::optional<int32_t> & into, int32_t least) const {
        int32_t number = least - 1;
        read(name, number, least);
        if (number >= least) into = number;
    }

    // The seed: any whole number, modulo 2^64.
    void read(const char * name, uint64_t & into) const {
        if (const Json * value = find(name)) {
            if (!value->is_number_integer()) wrong_type(name, *value);
            into = value->is_number_unsigned() ? value->get<uint64_t>() : static_cast<uint64_t>(value->get<int64_t>());
        }
    }

    void read_choice(const char * name, std::string & into, std::initializer_list<const char *> choices) const {
        read(name, into);
        std::string all;
        for (const char * choice : choices) {
            if (into == choice) return;
            all += (all.empty() ? "" : ", ") + std::string(choice);
        }
        refuse(text_of("%s must be one of %s, not '%s'", name, all.c_str(), into.c_str()));
    }

    const Json * find(const char * name) const {
        const auto found = values.find(name);
        return found == values.end() || found->is_null() ? nullptr : &*found;
    }

private:
    const Json & values;
};

Json parse(const char * path) {
    std::ifstream file(path);
    if (!file) refuse(text_of("cannot read the job %s: %s", path, std::strerror(errno)));
    Json data = Json::parse(file, nullptr, /*allow_exceptions=*/false);
    if (data.is_discarded()) refuse(text_of("cannot read the job %s: it is no JSON", path));
    if (!data.is_object()) refuse(text_of("the job %s is not a JSON object", path));
    return data;
}

Json object(const Json & data, const char * name) {
    const auto found = data.find(name);
    if (found == data.end()) return Json::object();
    if (!found->is_object()) refuse(text_of("%s must be an object", name));
    return *found;
}

Workload read_workload(const Json & values) {
    Workload workload;
    const Section section(values);
    section.read_choice("kind", workload.kind, {"synthetic", "prompts", "sustained"});
    section.read("n_prompt", workload.n_prompt, 0);
    section.read("n_gen", workload.n_gen, 0);
    section.read("n_depth", workload.n_depth, 0);
    section.read("duration_s", workload.duration_s);
    if (const Json * prompts = section.find("prompts")) {
        if (!prompts->is_array()) wrong_type("prompts", *prompts);
        for (const Json & prompt : *prompts) {
            workload.prompts.push_back(prompt.is_string() ? prompt.get<std::string>() : "");
        }
    }
    return workload;
}

Settings read_settings(const Json & values) {
    Settings settings;
    const Section section(values);
    section.read("threads", settings.threads, 1);
    section.read("threads_batch", settings.threads_batch, 1);
    section.read("n_batch", settings.n_batch, 1);
    section.read("n_ubatch", settings.n_ubatch, 1);
    section.read("cache_type_k", settings.cache_type_k);
    section.read("cache_type_v", settings.cache_type_v);
    section.read_choice("flash_attn", settings.flash_attn, {"auto", "on", "off"});
    section.read("n_gpu_layers", settings.n_gpu_layers, INT32_MIN);
    section.read("mmap", settings.mmap);
    section.read_choice("page_cache", settings.page_cache, {"warm", "cold"});
    section.read("seed", settings.seed);
    section.read("temperature", settings.temperature);
    section.read("ignore_eos", settings.ignore_eos);
    return settings;
}

void check_together(const Workload & workload) {
    if (workload.kind == "prompts") {
        bool whole = !workload.prompts.empty();
        for (const std::string & prompt : workload.prompts) whole = whole && !prompt.empty();
        if (!whole) refuse("a workload of prompts needs a list of texts that are not empty");
    } else if (workload.n_prompt == 0 && workload.n_gen == 0) {
        refuse("the workload asks for no tokens: n_prompt and n_gen are both 0");
    }
    if (workload.kind == "sustained" && workload.duration_s == 0) refuse("a sustained workload needs duration_s");
}

} // namespace

Job read_job(const char * path) {
    const Json data = parse(path);
    Job job;
    const Section top(data);
    int32_t n_ctx_train = 0;
    top.read("model", job.model);
    top.read("n_ctx_train", n_ctx_train, 0);
    job.n_ctx_train = n_ctx_train;
    if (job.model.empty()) refuse(text_of("the job %s names no model", path));
    job.workload = read_workload(object(data, "workload"));
    job.settings = read_settings(object(data, "settings"));
    const Json repeat = object(data, "repeat");
    Section(repeat).read("warmup", job.repeat.warmup, 0);
    Section(repeat).read("repetitions", job.repeat.repetitions, 1);
    check_together(job.workload);
    return job;
}

ScoreJob read_score_job(const char * path) {
    const Json data = parse(path);
    ScoreJob job;
    const Section top(data);
    top.read_choice("kind", job.kind, {"text", "choices"});
    top.read("data", job.data);
    top.read("n_ctx", job.n_ctx, 2);
    top.read("max_chunks", job.max_chunks, 1);
    top.read("threads", job.threads, 1);
    const Json * models = top.find("models");
    if (!models || !models->is_array() || models->empty()) refuse(text_of("the job %s names no models", path));
    for (const Json & asked : *models) {
        if (!asked.is_object()) wrong_type("models", asked);
        ScoreJob::Model model;
        Section(asked).read("path", model.path);
        Section(asked).read("begin", model.begin, 0);
        job.models.push_back(model);
    }
    std::optional<int32_t> reference;
    top.read("reference", reference, 0);
    if (reference && static_cast<size_t>(*reference) >= job.models.size()) refuse("reference is not one of the models");
    if (reference) job.reference = static_cast<size_t>(*reference);
    if (job.kind == "text" && job.n_ctx == 0) refuse(text_of("the job %s does not say n_ctx", path));
    return job;
}
