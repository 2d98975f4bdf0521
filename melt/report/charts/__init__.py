"""Pictures for a browser, a document or a chat: Vega-Lite specifications, and what turns them into files."""
