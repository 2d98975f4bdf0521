// The share of a file that lies in the page cache, and how to bring it in or out before a model is loaded.
#pragma once

#include <string>

#include "events.hpp"

// Make the cache `cold` or `warm` for a file and say what became of it, as the load event's `page_cache`. Cold is a
// request: pages that another process has mapped stay; hence the measured share and not the wish is what counts.
Json prepare_page_cache(const std::string & path, const std::string & asked);
