// What models think of texts and of answers to questions, for `melt quality`: the same job and the same events as
// agents/runners/llama_quality.py, so that figures from any device can be made into the same document.
#pragma once

#include "engine.hpp"

// Score the models of a job and say the scores of each chunk, or the log-likelihoods of each item's choices. Returns
// whether all was scored; false when told to end. Throws Failure.
bool score_text(const ScoreJob & job, Events & events, const Stop & stop);
bool score_choices(const ScoreJob & job, Events & events, const Stop & stop);
