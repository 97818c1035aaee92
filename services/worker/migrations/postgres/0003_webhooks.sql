-- Where events are sent to.
CREATE TABLE webhook_endpoints (
    endpoint_id     TEXT COLLATE "C"   PRIMARY KEY,
    owner           TEXT COLLATE "C"   NOT NULL,
    all_owners      BIGINT NOT NULL,
    url             TEXT COLLATE "C"   NOT NULL,
    description     TEXT COLLATE "C"   NOT NULL,
    -- One a line; empty for all.
    event_types     TEXT COLLATE "C"   NOT NULL,
    secret          BYTEA   NOT NULL,
    -- The secret before, and until when it signs too.
    old_secret      BYTEA,
    old_secret_ms   BIGINT,
    enabled         BIGINT NOT NULL,
    disabled_reason TEXT COLLATE "C"   NOT NULL DEFAULT '',
    -- Since when every attempt has failed.
    failing_ms      BIGINT,
    create_ms       BIGINT NOT NULL,
    update_ms       BIGINT NOT NULL
);
CREATE INDEX webhook_endpoints_by_owner ON webhook_endpoints (owner, endpoint_id);

-- What is sent, once for all endpoints. The id is the event's.
CREATE TABLE webhook_messages (
    message_id TEXT COLLATE "C"   PRIMARY KEY,
    event_type TEXT COLLATE "C"   NOT NULL,
    body       BYTEA   NOT NULL,
    create_ms  BIGINT NOT NULL
);
CREATE INDEX webhook_messages_by_age ON webhook_messages (create_ms);

-- `state` is the number of streamgate.worker.v1.DeliveryState.
CREATE TABLE webhook_deliveries (
    delivery_id TEXT COLLATE "C"   PRIMARY KEY,
    endpoint_id TEXT COLLATE "C"   NOT NULL REFERENCES webhook_endpoints (endpoint_id) ON DELETE CASCADE,
    message_id  TEXT COLLATE "C"   NOT NULL REFERENCES webhook_messages (message_id) ON DELETE CASCADE,
    event_type  TEXT COLLATE "C"   NOT NULL,
    state       BIGINT NOT NULL,
    attempts    BIGINT NOT NULL DEFAULT 0,
    create_ms   BIGINT NOT NULL,
    end_ms      BIGINT
);
CREATE UNIQUE INDEX webhook_deliveries_once ON webhook_deliveries (message_id, endpoint_id);
CREATE INDEX webhook_deliveries_by_endpoint ON webhook_deliveries (endpoint_id, delivery_id);
CREATE INDEX webhook_deliveries_by_time ON webhook_deliveries (endpoint_id, create_ms);

CREATE TABLE webhook_attempts (
    attempt_id  TEXT COLLATE "C"   PRIMARY KEY,
    delivery_id TEXT COLLATE "C"   NOT NULL REFERENCES webhook_deliveries (delivery_id) ON DELETE CASCADE,
    at_ms       BIGINT NOT NULL,
    -- 0 when there was no answer.
    status      BIGINT NOT NULL,
    latency_ms  BIGINT NOT NULL,
    error       TEXT COLLATE "C"   NOT NULL,
    response    TEXT COLLATE "C"   NOT NULL
);
CREATE INDEX webhook_attempts_by_delivery ON webhook_attempts (delivery_id, attempt_id);
