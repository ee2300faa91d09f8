"""One small module a contender: how it stores the samples, and how a good user of it reads them."""
