-- The job whose statistics a job was derived from. No foreign key: its origin may be deleted.
ALTER TABLE jobs ADD COLUMN derived_from TEXT CHECK(length(derived_from) = 28);

-- Until here the events of deleted jobs were kept. That they were deleted stays known.
DELETE FROM events WHERE type <> 'job.deleted' AND job_id NOT IN (SELECT id FROM jobs);
