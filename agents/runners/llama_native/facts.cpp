#include "facts.hpp"

#include <cmath>
#include <fstream>
#include <map>
#include <sched.h>
#include <sys/resource.h>

#include "ggml-backend.h"

namespace {

constexpr double MIB = 1024 * 1024;
constexpr double ROUNDING_MIB = 0.006;

std::string last(const std::vector<std::vector<std::string>> & found, const char * otherwise) {
    return found.empty() ? otherwise : found.back().front();
}

// The CPUs that this process may run on, null where the kernel does not tell.
Json affinity() {
    // Room for as many CPUs as any kernel is built for.
    std::vector<cpu_set_t> sets(8192 / CPU_SETSIZE);
    const size_t bytes = sets.size() * sizeof(cpu_set_t);
    if (sched_getaffinity(0, bytes, sets.data()) != 0) return nullptr;
    Json cpus = Json::array();
    for (size_t cpu = 0; cpu < bytes * 8; ++cpu) {
        if (CPU_ISSET_S(cpu, bytes, sets.data())) cpus.push_back(cpu);
    }
    return cpus;
}

double row_bytes(const Log & log, const char * pattern, const std::string & type) {
    const std::string width = last(log.find("_gqa", pattern), "0");
    return static_cast<double>(ggml_row_size(cache_type(type), std::strtoll(width.c_str(), nullptr, 10)));
}

// Add up the caches: exactly from cells, layers and types where that agrees with the log, else as logged.
Json kv_cache_bytes(const Log & log, const Settings & settings) {
    const double row = row_bytes(log, "n_embd_k_gqa += (\\d+)$", settings.cache_type_k) +
                       row_bytes(log, "n_embd_v_gqa += (\\d+)$", settings.cache_type_v);
    Json total = nullptr;
    const auto add = [&total](double size) {
        total = (total.is_null() ? 0 : total.get<int64_t>()) + std::llround(size);
    };
    for (const auto & groups :
         log.find("MiB (", "size = +([\\d.]+) MiB \\( *(\\d+) cells, +(\\d+) layers[^)]*\\), K ")) {
        const double size = std::stod(groups[0]) * MIB;
        const double exact = std::stod(groups[1]) * std::stod(groups[2]) * row;
        // Layers may differ in width, and some architectures keep no V: then the log is right and this is not.
        add(std::abs(exact - size) <= ROUNDING_MIB * MIB ? exact : size);
    }
    for (const auto & groups : log.find("MiB (", "size = +([\\d.]+) MiB \\( *\\d+ cells[^)]*\\), R ")) {
        add(std::stod(groups[0]) * MIB);
    }
    return total;
}

std::string trimmed(const char * text) {
    std::string trimmed = text ? text : "";
    trimmed.erase(0, std::min(trimmed.find_first_not_of(" |"), trimmed.size()));
    trimmed.erase(trimmed.find_last_not_of(" |") + 1);
    return trimmed;
}

} // namespace

Json used(const Engine & engine, const Settings & settings) {
    const Log & log = engine.log;
    const int layers = std::atoi(last(log.find("offloaded", "offloaded (\\d+)/\\d+ layers"), "0").c_str());
    const std::string attention =
        last(log.find("abled", "(?:flash_attn +=|Flash Attention).* (enabled|disabled)"), "");
    Json devices = Json::array();
    std::string backend = "CPU";
    for (size_t index = ggml_backend_dev_count(); index-- > 0;) {
        ggml_backend_dev_t device = ggml_backend_dev_get(index);
        const std::string name = ggml_backend_dev_name(device);
        devices.insert(devices.begin(), text_of("%s (%s)", name.c_str(), ggml_backend_dev_description(device)));
        if (layers > 0 && name != "CPU") backend = name;
    }
    return {
        {"threads", llama_n_threads(engine.context)},
        {"threads_batch", llama_n_threads_batch(engine.context)},
        {"n_ctx", llama_n_ctx(engine.context)},
        {"n_batch", llama_n_batch(engine.context)},
        {"n_ubatch", llama_n_ubatch(engine.context)},
        {"cache_type_k", settings.cache_type_k},
        {"cache_type_v", settings.cache_type_v},
        {"flash_attn", attention.empty() ? Json() : Json(attention == "enabled" ? "on" : "off")},
        {"n_gpu_layers", layers},
        {"mmap", last(log.find("load_mode", "load_mode = (\\w+)"), "").rfind("mmap", 0) == 0},
        {"backend", backend},
        {"devices", devices},
        {"cpu_features", trimmed(llama_print_system_info())},
        {"affinity", affinity()},
    };
}

Json memory(const Engine & engine, const Settings & settings) {
    std::map<std::string, double> compute; // a later reservation of a device replaces the earlier one
    for (const auto & groups :
         engine.log.find("compute buffer size", "(\\S+) +compute buffer size = +([\\d.]+) MiB")) {
        compute[groups[0]] = std::stod(groups[1]);
    }
    double compute_mib = 0;
    for (const auto & [device, mib] : compute) compute_mib += mib;
    const uint64_t model_bytes = llama_model_size(engine.model);
    return {
        {"model_bytes", model_bytes ? Json(model_bytes) : Json()},
        {"kv_cache_bytes", kv_cache_bytes(engine.log, settings)},
        {"compute_bytes", compute.empty() ? Json() : Json(std::llround(compute_mib * MIB))},
    };
}

int64_t peak_rss_bytes() {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.rfind("VmHWM:", 0) == 0) return std::strtoll(line.c_str() + 6, nullptr, 10) * 1024;
    }
    rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss * INT64_C(1024);
}
