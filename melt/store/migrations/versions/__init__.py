"""One file per step. A released step is never edited: what it got wrong, the next one puts right."""
