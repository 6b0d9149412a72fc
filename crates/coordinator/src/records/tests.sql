-- What became of each test of a shard. A shard of several tests (`among`) that failed does not say which of them did.
CREATE TABLE test_results (
    test TEXT NOT NULL,
    build BIGINT NOT NULL,
    attempt BIGINT NOT NULL,
    shard BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    among BIGINT NOT NULL,
    millis BIGINT,
    ended BIGINT NOT NULL,
    PRIMARY KEY (test, build, attempt, shard)
);
CREATE INDEX test_results_by_build ON test_results (build);
CREATE INDEX leases_by_machine ON leases (machine, granted);
