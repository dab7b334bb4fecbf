"""The crash loop: kills, pauses and cuts off what works on background batches, and compares a ledger kept outside."""
