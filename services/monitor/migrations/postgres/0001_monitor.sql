-- Alerts: at most one that is not resolved for each rule and target.
CREATE TABLE alerts (
    alert_id TEXT COLLATE "C" PRIMARY KEY,
    rule TEXT COLLATE "C" NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    severity TEXT COLLATE "C" NOT NULL,
    state TEXT COLLATE "C" NOT NULL,
    summary TEXT COLLATE "C" NOT NULL,
    value DOUBLE PRECISION NOT NULL,
    threshold DOUBLE PRECISION NOT NULL,
    pending_ms BIGINT NOT NULL,
    firing_ms BIGINT,
    -- Since when the condition of a firing alert is away.
    clear_ms BIGINT,
    acknowledged_ms BIGINT,
    acknowledged_by TEXT COLLATE "C" NOT NULL DEFAULT '',
    note TEXT COLLATE "C" NOT NULL DEFAULT '',
    resolved_ms BIGINT
);
CREATE UNIQUE INDEX alerts_open ON alerts (rule, target) WHERE state <> 'resolved';
CREATE INDEX alerts_by_state ON alerts (state, alert_id);
CREATE INDEX alerts_by_rule ON alerts (rule, alert_id);

-- Log lines of all services. line_id orders lines of the same millisecond.
CREATE TABLE logs (
    line_id TEXT COLLATE "C" PRIMARY KEY,
    time_ms BIGINT NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    level BIGINT NOT NULL,
    target TEXT COLLATE "C" NOT NULL,
    message TEXT COLLATE "C" NOT NULL,
    -- Fields as JSON.
    fields TEXT COLLATE "C" NOT NULL,
    -- Message and fields in lower case, to be searched.
    searched TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    trace_id TEXT COLLATE "C" NOT NULL,
    size_bytes BIGINT NOT NULL
);
CREATE INDEX logs_by_time ON logs (time_ms, line_id);
CREATE INDEX logs_by_service ON logs (service, time_ms, line_id);
CREATE INDEX logs_by_request ON logs (request_id, time_ms, line_id);
CREATE INDEX logs_by_trace ON logs (trace_id, time_ms, line_id);

-- The audit log: rows are added and never changed, each with the hash of the one before it.
CREATE TABLE audit_entries (
    sequence BIGINT PRIMARY KEY,
    entry_id TEXT COLLATE "C" NOT NULL UNIQUE,
    time_ms BIGINT NOT NULL,
    service TEXT COLLATE "C" NOT NULL,
    method TEXT COLLATE "C" NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    actor_role TEXT COLLATE "C" NOT NULL,
    actor_wallet TEXT COLLATE "C" NOT NULL,
    object TEXT COLLATE "C" NOT NULL,
    outcome BIGINT NOT NULL,
    reason TEXT COLLATE "C" NOT NULL,
    request_id TEXT COLLATE "C" NOT NULL,
    missing_before BIGINT NOT NULL,
    previous_hash TEXT COLLATE "C" NOT NULL,
    hash TEXT COLLATE "C" NOT NULL
);
CREATE INDEX audit_by_actor ON audit_entries (actor, sequence);
CREATE INDEX audit_by_object ON audit_entries (object, sequence);
CREATE INDEX audit_by_request ON audit_entries (request_id, sequence);
CREATE INDEX audit_by_service ON audit_entries (service, sequence);
CREATE INDEX audit_by_method ON audit_entries (method, sequence);
CREATE INDEX audit_by_outcome ON audit_entries (outcome, sequence);

-- The newest entry, so that a cut at the end shows too.
CREATE TABLE audit_head (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    sequence BIGINT NOT NULL,
    hash TEXT COLLATE "C" NOT NULL
);
INSERT INTO audit_head (id, sequence, hash) VALUES (1, 0, '');

CREATE FUNCTION audit_entries_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only';
END;
$$;
CREATE TRIGGER audit_entries_stay BEFORE UPDATE OR DELETE ON audit_entries
    FOR EACH ROW EXECUTE FUNCTION audit_entries_refuse();
