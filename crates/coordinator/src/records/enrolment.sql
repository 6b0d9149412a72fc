-- Machines that were enrolled or have asked to be, one row a name.
CREATE TABLE identities (
    name TEXT NOT NULL PRIMARY KEY,
    host_types TEXT NOT NULL,
    state TEXT NOT NULL,
    key_digest TEXT NOT NULL,
    csr_pem TEXT NOT NULL,
    first_serial TEXT NOT NULL,
    expires BIGINT,
    requested BIGINT NOT NULL,
    changed BIGINT NOT NULL,
    token TEXT NOT NULL,
    note TEXT NOT NULL
);
CREATE INDEX identities_by_key ON identities (key_digest);

-- Tokens for enrolling; of the secret only a digest.
CREATE TABLE enrolment_tokens (
    id TEXT NOT NULL PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    host_types TEXT NOT NULL,
    uses_left BIGINT,
    expires BIGINT,
    created BIGINT NOT NULL,
    revoked BIGINT
);

-- What buildlets of a platform are told to run. The manifest is what the authority has signed.
CREATE TABLE releases (
    number BIGINT NOT NULL PRIMARY KEY,
    platform TEXT NOT NULL,
    channel TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    share BIGINT NOT NULL,
    published BIGINT NOT NULL,
    manifest TEXT NOT NULL,
    seal TEXT NOT NULL
);
CREATE INDEX releases_by_platform ON releases (platform, channel, number);
