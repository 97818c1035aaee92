-- doomed may also be a time: from then on a sweep looks for bytes once more. Sweeps ask for those whose time has come.
DROP INDEX uploads_doomed;
CREATE INDEX uploads_doomed ON uploads (doomed) WHERE doomed <> 0;
