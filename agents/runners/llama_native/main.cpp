// Run a workload with llama.cpp and print what happened: `llama-native JOB.json`; or score models: `llama-native --score
// JOB.json`.
//
// The same jobs and the same events as agents/runners/llama_cpp.py and llama_quality.py: agents/PROTOCOL.md, "Runner
// events" and "Scoring". Exit code 0 when it printed `finish`, 143 when it was told to end, 2 for wrong usage, 1 otherwise.

#include <cstring>
#include <new>
#include <unistd.h>

#include "engine.hpp"
#include "facts.hpp"
#include "page_cache.hpp"
#include "score.hpp"
#include "work.hpp"

// The CPU variant that this is: cpu_check.c, which alone is compiled for each.
extern "C" const char * const melt_variant;

namespace {

constexpr int TOLD_TO_END = 143;

void check_context(const std::string & model, int64_t n_ctx_train, int64_t n_ctx) {
    if (n_ctx_train > 0 && n_ctx > n_ctx_train) {
        throw Failure("context_too_long",
                      text_of("the workload needs a context of %lld tokens, the model was trained for %lld: %s",
                              static_cast<long long>(n_ctx), static_cast<long long>(n_ctx_train), model.c_str()));
    }
}

int64_t asked_tokens(const Workload & workload) {
    return int64_t{workload.n_depth} + workload.n_prompt + workload.n_gen;
}

// How many tokens the context must hold; texts are counted with nothing but the vocabulary loaded.
int64_t needed_context(const Job & job, Engine & engine) {
    if (job.workload.kind != "prompts") return std::max<int64_t>(asked_tokens(job.workload), 1);
    engine.load(job.model, job.settings, /*vocab_only=*/true);
    size_t longest = 0;
    for (const std::string & prompt : job.workload.prompts) longest = std::max(longest, engine.tokenize(prompt).size());
    const int64_t n_ctx = static_cast<int64_t>(longest) + job.workload.n_depth + job.workload.n_gen;
    check_context(job.model, engine.n_ctx_train(), n_ctx);
    engine.unload();
    return n_ctx;
}

void load(const Job & job, Engine & engine, Events & events, int64_t n_ctx, const Json & page_cache) {
    const int64_t begun_ns = now_ns();
    engine.load(job.model, job.settings);
    check_context(job.model, engine.n_ctx_train(), n_ctx);
    engine.open(n_ctx, job.settings);
    const int64_t done_ns = now_ns();
    events.say("load", {
        {"t0_ns", begun_ns},
        {"t1_ns", done_ns},
        {"page_cache", page_cache},
        {"used", used(engine, job.settings)},
        {"memory", memory(engine, job.settings)},
    });
}

// Runs the repetitions of a job on a loaded engine.
class Session {
public:
    Session(const Job & job, Engine & engine, Events & events, Stop & stop)
        : job(job), engine(engine), events(events), stop(stop), worker(engine, job.settings, stop) {}

    // Return whether all were done; false when told to end.
    bool run() {
        for (int32_t number = 0; number < job.repeat.warmup; ++number) {
            if (!repeat(number, true)) return false;
        }
        for (int32_t number = 0; number < job.repeat.repetitions; ++number) {
            if (!repeat(number, false)) return false;
        }
        return true;
    }

private:
    bool repeat(int32_t repetition, bool warmup) {
        job.workload.kind == "prompts" ? answer_texts(repetition, warmup) : made_up(repetition, warmup);
        return !stop.told();
    }

    // Do one repetition of made-up tokens: one request, or as many as fit into duration_s.
    void made_up(int32_t repetition, bool warmup) {
        const Workload & workload = job.workload;
        const size_t n_depth = static_cast<size_t>(workload.n_depth), n_prompt = static_cast<size_t>(workload.n_prompt);
        // One more than is prefilled: the token that a decode-only workload begins with.
        std::vector<llama_token> tokens = engine.synthetic(n_depth + n_prompt + 1, job.settings.seed);
        const bool sustained = workload.kind == "sustained" && !warmup;
        stop.set(sustained ? now_ns() + static_cast<int64_t>(workload.duration_s * 1e9) : Stop::never_ns);
        do {
            worker.prepare({tokens.data(), n_depth});
            if (now_ns() >= stop.at_ns()) return;
            const Generation made =
                worker.request({tokens.data() + n_depth, n_prompt}, tokens.back(), workload.n_gen, std::nullopt);
            say(made, nullptr, repetition, warmup);
        } while (sustained && now_ns() < stop.at_ns());
    }

    // Do one repetition of texts: each is tokenized and answered, and counts from the moment it is handed over.
    void answer_texts(int32_t repetition, bool warmup) {
        const size_t n_depth = static_cast<size_t>(job.workload.n_depth);
        std::vector<llama_token> depth = engine.synthetic(n_depth, job.settings.seed);
        for (const std::string & prompt : job.workload.prompts) {
            worker.prepare({depth.data(), n_depth});
            if (stop.told()) return;
            const int64_t begun_ns = now_ns();
            std::vector<llama_token> tokens = engine.tokenize(prompt);
            const int64_t done_ns = now_ns();
            const Generation made = worker.request({tokens.data(), tokens.size()}, 0, job.workload.n_gen, begun_ns);
            events.say("tokenize", {
                {"t0_ns", begun_ns},
                {"t1_ns", done_ns},
                {"n", tokens.size()},
                {"repetition", repetition},
                {"warmup", warmup},
            });
            say(made, engine.text(made.token_ids), repetition, warmup);
        }
    }

    void say(const Generation & made, const Json & text, int32_t repetition, bool warmup) {
        Json fields = {{"repetition", repetition}, {"warmup", warmup}, {"depth", job.workload.n_depth}};
        fields.update(made.fields());
        fields["text"] = text;
        events.say("generation", fields);
    }

    const Job & job;
    Engine & engine;
    Events & events;
    Stop & stop;
    Worker worker;
};

void say_hello(Events & events) {
    events.say("hello", {
        {"runner", "llama_native"},
        {"engine", "llama.cpp"},
        {"engine_version", MELT_ENGINE_VERSION},
        {"engine_revision", text_of("llama.cpp %s", llama_version())},
        {"pid", getpid()},
        {"python", nullptr},
        {"variant", melt_variant},
    });
}

void say_finish(Events & events) {
    events.say("finish", {{"t_ns", now_ns()}, {"peak_rss_bytes", peak_rss_bytes()}});
}

int run(const Job & job, Events & events, Stop & stop) {
    check_context(job.model, job.n_ctx_train, asked_tokens(job.workload));
    say_hello(events);
    Engine engine(events);
    engine.check_file(job.model);
    const int64_t n_ctx = needed_context(job, engine);
    const Json page_cache = prepare_page_cache(job.model, job.settings.page_cache);
    load(job, engine, events, n_ctx, page_cache);
    if (!Session(job, engine, events, stop).run()) return TOLD_TO_END;
    say_finish(events);
    return 0;
}

int score(const ScoreJob & job, Events & events, const Stop & stop) {
    say_hello(events);
    const auto scored = job.kind == "text" ? score_text : score_choices;
    if (!scored(job, events, stop)) return TOLD_TO_END;
    say_finish(events);
    return 0;
}

int run_or_fail(const char * path, bool scores, Events & events) {
    Stop stop;
    try {
        return scores ? score(read_score_job(path), events, stop) : run(read_job(path), events, stop);
    } catch (const Failure & failure) {
        events.fail(failure.code, failure.what());
    } catch (const std::bad_alloc &) {
        events.fail("out_of_memory", "the runner ran out of memory");
    } catch (const Unheard &) {
        throw;
    } catch (const std::exception & error) {
        events.fail("internal", error.what());
    }
    return 1;
}

} // namespace

int main(int argc, char ** argv) {
    const bool scores = argc == 3 && std::strcmp(argv[1], "--score") == 0;
    if (argc != 2 && !scores) {
        fprintf(stderr, "usage: %s [--score] JOB.json\n", argv[0]);
        return 2;
    }
    int code = 1;
    try {
        Events events;
        code = run_or_fail(argv[argc - 1], scores, events);
    } catch (const std::exception & error) {
        fprintf(stderr, "%s\n", error.what());
    }
    // Freeing a model takes time and gives nothing: the process ends here.
    fflush(stderr);
    _exit(code);
}
