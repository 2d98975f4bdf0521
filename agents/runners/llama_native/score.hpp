// What models think of a text, for `melt quality`: the same job and the same events as agents/runners/llama_quality.py
// for texts, so that figures from any device can be made into the same document.
#pragma once

#include "engine.hpp"

// Score the models of a job on its text and say each chunk's scores. Returns whether all was scored; false when told to
// end. Throws Failure.
bool score_text(const ScoreJob & job, Events & events, const Stop & stop);
