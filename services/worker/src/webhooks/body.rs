//! An event as the JSON that receivers get.

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value, json};
use streamgate_core::{
    events::TYPES,
    time::{from_timestamp, now_ms},
};
use streamgate_proto::{FILE_DESCRIPTOR_SET, streamgate::events::v1::Event};

use crate::Error;

/// Type of the event that is sent on request.
pub const TEST_TYPE: &str = "webhook.test";
/// Fields of the envelope; the one beside them is the payload.
const ENVELOPE: [&str; 6] = ["id", "source", "subject", "time", "type", "trace_parent"];
/// Fields that say how things are stored inside.
const INSIDE: [&str; 1] = ["source_key"];

/// An event as it is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// Such as `file.uploaded`.
    pub event_type: String,
    /// The account that the event belongs to; empty for the platform.
    pub owner: String,
    /// JSON.
    pub body: Vec<u8>,
}

/// Writes events as JSON. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Bodies {
    event: MessageDescriptor,
}

impl Bodies {
    /// Reads the contracts.
    ///
    /// # Errors
    /// When they hold no events.
    pub fn new() -> Result<Self, Error> {
        let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).map_err(|_| Error::NoContract)?;
        let event = pool.get_message_by_name("streamgate.events.v1.Event").ok_or(Error::NoContract)?;
        Ok(Self { event })
    }

    /// What receivers are told of an event; nothing for what services only tell each other.
    ///
    /// # Errors
    /// An event that can't be written.
    pub fn of(&self, event: &Event) -> Result<Option<Told>, Error> {
        let Some(payload) = &event.payload else { return Ok(None) };
        let event_type = streamgate_core::events::event_type(payload);
        if !TYPES.contains(&event_type) {
            return Ok(None);
        }
        let data = self.data(event)?;
        let owner = data.get("owner").and_then(Value::as_str).unwrap_or_default().to_owned();
        let at_ms = event.time.as_ref().map_or_else(now_ms, from_timestamp);
        Ok(Some(Told { event_type: event_type.to_owned(), owner, body: written(event_type, at_ms, &Value::Object(data)) }))
    }

    fn data(&self, event: &Event) -> Result<Map<String, Value>, Error> {
        let message =
            DynamicMessage::decode(self.event.clone(), event.encode_to_vec().as_slice()).map_err(|_| Error::NoContract)?;
        let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
        let json = message.serialize_with_options(serde_json::value::Serializer, &options).map_err(|_| Error::NoContract)?;
        let Value::Object(fields) = json else { return Err(Error::NoContract) };
        let payload = fields.into_iter().find(|(name, _)| !ENVELOPE.contains(&name.as_str())).map(|(_, value)| value);
        let Some(Value::Object(mut data)) = payload else { return Err(Error::NoContract) };
        data.retain(|name, _| !INSIDE.contains(&name.as_str()));
        Ok(data)
    }
}

/// The event that is sent on request.
#[must_use]
pub fn test_event(endpoint_id: &str) -> Told {
    let body = written(TEST_TYPE, now_ms(), &json!({"endpoint_id": endpoint_id}));
    Told { event_type: TEST_TYPE.to_owned(), owner: String::new(), body }
}

fn written(event_type: &str, at_ms: i64, data: &Value) -> Vec<u8> {
    let time = jiff::Timestamp::from_millisecond(at_ms).map(|time| time.to_string()).unwrap_or_default();
    json!({"type": event_type, "timestamp": time, "data": data}).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use streamgate_core::time::to_timestamp;
    use streamgate_proto::streamgate::events::v1::{FileUploaded, GateChanged, event::Payload};

    use super::*;

    fn event(payload: Payload) -> Event {
        Event { id: "evt_1".into(), subject: "s".into(), time: Some(to_timestamp(0)), payload: Some(payload), ..Event::default() }
    }

    #[test]
    fn an_event_is_told_with_its_data_and_nothing_of_the_inside() {
        let payload = FileUploaded {
            content_id: "cnt".into(),
            source_key: "sources/x".into(),
            owner: "acc".into(),
            ..FileUploaded::default()
        };
        let told = Bodies::new().unwrap().of(&event(Payload::FileUploaded(payload))).unwrap().unwrap();
        assert_eq!((told.event_type.as_str(), told.owner.as_str()), ("file.uploaded", "acc"));
        let body: Value = serde_json::from_slice(&told.body).unwrap();
        assert_eq!((&body["type"], &body["timestamp"]), (&json!("file.uploaded"), &json!("1970-01-01T00:00:00Z")));
        assert_eq!(body["data"]["content_id"], "cnt");
        assert!(body["data"].get("source_key").is_none());
    }

    #[test]
    fn what_services_tell_each_other_stays_inside() {
        let told = Bodies::new().unwrap().of(&event(Payload::GateChanged(GateChanged::default()))).unwrap();
        assert_eq!(told, None);
    }
}
