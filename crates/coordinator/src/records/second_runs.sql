-- What failed is run a second time before it is believed. `first_run` is how it failed first, as JSON; NULL if it has not.
ALTER TABLE shards ADD COLUMN first_run TEXT;
-- How many shards of a build failed and then passed.
ALTER TABLE builds ADD COLUMN flakes BIGINT NOT NULL DEFAULT 0;
-- Where a test ran; how and where it failed before, if this was its second run.
ALTER TABLE test_results ADD COLUMN machine TEXT;
ALTER TABLE test_results ADD COLUMN first_outcome TEXT;
ALTER TABLE test_results ADD COLUMN first_machine TEXT;
