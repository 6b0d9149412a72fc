-- What counts against a budget, apart from how often something was begun: room made for others is no fault.

ALTER TABLE builds ADD COLUMN faults BIGINT NOT NULL DEFAULT 0;
ALTER TABLE builds ADD COLUMN preempted BIGINT NOT NULL DEFAULT 0;
ALTER TABLE shards ADD COLUMN faults BIGINT NOT NULL DEFAULT 0;
