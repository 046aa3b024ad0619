-- JSON texts are checked before they are bound: SQLite of Debian 12 refuses json_valid() in a
-- schema that it does not trust.
CREATE TABLE jobs(
  id TEXT NOT NULL PRIMARY KEY CHECK(length(id) = 28),
  name TEXT NOT NULL CHECK(length(name) BETWEEN 1 AND 200),
  state TEXT NOT NULL CHECK(state IN
    ('queued','running','canceling','succeeded','failed','canceled')),
  phase TEXT NOT NULL DEFAULT '',
  done INTEGER NOT NULL DEFAULT 0,
  total INTEGER NOT NULL DEFAULT 0,
  unit TEXT NOT NULL DEFAULT '',
  attempt INTEGER NOT NULL DEFAULT 0,  -- fencing token: grows with every claim
  failures INTEGER NOT NULL DEFAULT 0, -- attempts that count against the limit
  rev INTEGER NOT NULL DEFAULT 1,
  priority INTEGER NOT NULL DEFAULT 0,
  tags TEXT NOT NULL DEFAULT '[]',
  config TEXT NOT NULL,
  model_sha256 TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  started_ms INTEGER NOT NULL DEFAULT 0,
  finished_ms INTEGER NOT NULL DEFAULT 0,
  updated_ms INTEGER NOT NULL,
  run_after_ms INTEGER NOT NULL DEFAULT 0,
  idempotency_key TEXT,
  request_hash TEXT,
  error_code TEXT,
  error_class TEXT,
  error_message TEXT,
  error_subject TEXT,
  instance TEXT,
  version INTEGER NOT NULL DEFAULT 0,
  summary TEXT
) STRICT;
CREATE INDEX jobs_queue ON jobs(priority DESC, id) WHERE state = 'queued';
CREATE INDEX jobs_state ON jobs(state, id);
CREATE INDEX jobs_name ON jobs(name, id);
CREATE UNIQUE INDEX jobs_key ON jobs(idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE TABLE job_inputs(
  job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  role TEXT NOT NULL CHECK(role IN ('model','model.data','calibration','validation')),
  blob TEXT NOT NULL CHECK(length(blob) = 64),
  size INTEGER NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY(job_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_inputs_blob ON job_inputs(blob);

CREATE TABLE artifacts(
  job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  blob TEXT NOT NULL CHECK(length(blob) = 64),
  size INTEGER NOT NULL,
  content_type TEXT NOT NULL,
  created_ms INTEGER NOT NULL,
  PRIMARY KEY(job_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX artifacts_blob ON artifacts(blob);

CREATE TABLE calibration(
  job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  tensor TEXT NOT NULL,
  operator TEXT NOT NULL,
  dtype TEXT NOT NULL,
  scale REAL NOT NULL CHECK(scale > 0),
  zero_point INTEGER NOT NULL,
  lo REAL, hi REAL,          -- the range that was chosen
  min REAL, max REAL,        -- the range that was seen
  count INTEGER NOT NULL,    -- values seen
  saturated REAL,            -- fraction of values outside [lo, hi]
  extra TEXT,
  PRIMARY KEY(job_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE layers(
  job_id TEXT NOT NULL REFERENCES jobs(id) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  node TEXT NOT NULL,
  op TEXT NOT NULL,
  precision TEXT NOT NULL,
  reason TEXT,
  local_sqnr_db REAL, cumulative_sqnr_db REAL, cosine REAL, max_abs_error REAL,
  extra TEXT,
  PRIMARY KEY(job_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE models(
  name TEXT NOT NULL PRIMARY KEY,
  last_version INTEGER NOT NULL -- never reused, also not after a deletion
) STRICT, WITHOUT ROWID;

CREATE TABLE versions(
  model TEXT NOT NULL REFERENCES models(name),
  version INTEGER NOT NULL,
  job_id TEXT NOT NULL UNIQUE REFERENCES jobs(id) ON DELETE CASCADE,
  passed INTEGER NOT NULL CHECK(passed IN (0, 1)), -- its gate
  created_ms INTEGER NOT NULL,
  PRIMARY KEY(model, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE events(
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  job_id TEXT NOT NULL, -- no foreign key: events outlive their job
  type TEXT NOT NULL,
  data TEXT NOT NULL,
  time_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX events_job ON events(job_id, id);
