-- Open alerts, in the order of their list.
CREATE INDEX alerts_unresolved ON alerts (alert_id) WHERE state <> 'resolved';
