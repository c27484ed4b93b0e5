"""asyncio tools that know nothing of documents: signals, task scopes, locks by key."""
