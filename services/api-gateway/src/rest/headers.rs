//! What the headers of a REST call mean: `Idempotency-Key`, `If-Match`, `If-None-Match` and `Prefer`.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use prost_reflect::MessageDescriptor;
use prost_reflect::prost_types::method_options::IdempotencyLevel;
use streamgate_core::{ErrorKind, Failure, access::only_reads};

use crate::{
    error::{Error, Result},
    rest::{
        table::Binding,
        tags::{self, Tag},
    },
};

/// Fills a request's `request_id`, so that a repeated call gives the first answer.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest key that the services take.
const LONGEST_KEY: usize = 128;
/// Fields of requests that headers fill.
const REQUEST_ID: &str = "request_id";
pub const ETAG: &str = "etag";
/// Most tags of a list that are looked at.
const MOST_TAGS: usize = 16;
/// Says that `Prefer` was followed.
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const MINIMAL: &str = "return=minimal";

/// What the headers ask for beside the message.
#[derive(Debug, Default)]
pub struct Wishes<'a> {
    /// For the field `request_id`.
    pub request_id: Option<&'a str>,
    /// For the field `etag`.
    pub etag: Option<String>,
    /// Others that will do as well.
    pub other_etags: Vec<String>,
    /// An answer without a body will do.
    minimal: bool,
    /// Answers that the caller has already.
    known: Vec<Tag>,
}

impl<'a> Wishes<'a> {
    /// Reads the headers of a call to `binding`.
    ///
    /// # Errors
    /// What is asked for must be kept, so a call that can't keep it is refused.
    pub fn of(binding: &Binding, headers: &'a HeaderMap) -> Result<Self> {
        let changes = !only_reads(binding.grpc_path.path());
        let minimal =
            changes && matches!(binding.method, Method::PUT | Method::PATCH | Method::DELETE) && prefers_minimal(headers);
        let mut known = if binding.method == Method::GET { tags::of(headers, header::IF_NONE_MATCH) } else { Vec::new() };
        known.truncate(MOST_TAGS);
        let mut etags = etags(binding, headers)?.into_iter();
        let (etag, other_etags) = (etags.next(), etags.collect());
        Ok(Self { request_id: request_id(binding, headers)?, etag, other_etags, minimal, known })
    }

    /// What is answered with `body`, which shows an object that names itself by `own_tag`: less where nobody wants it.
    pub fn answer(&self, binding: &Binding, own_tag: Option<&str>, body: Vec<u8>) -> Answer {
        let etag = own_tag.map(|tag| format!("\"{tag}\""));
        if self.minimal {
            return Answer { body: None, etag, status: http::StatusCode::NO_CONTENT, applied: Some(MINIMAL) };
        }
        // An object's own tag leaves out what changes by itself, such as progress: it guards changes, not copies.
        let etag = etag.or_else(|| validates(binding).then(|| weak_tag(&body)));
        let has = etag.as_deref().filter(|tag| tag.starts_with("W/")).map(|tag| tag.trim_start_matches("W/").trim_matches('"'));
        if has.is_some_and(|tag| self.known.iter().any(|known| known.means(tag))) {
            return Answer { body: None, etag, status: http::StatusCode::NOT_MODIFIED, applied: None };
        }
        Answer { body: Some(body), etag, status: http::StatusCode::OK, applied: None }
    }
}

/// An answer and what its headers say.
#[derive(Debug)]
pub struct Answer {
    /// Its JSON, unless none is sent.
    pub body: Option<Vec<u8>>,
    /// Its status.
    pub status: http::StatusCode,
    etag: Option<String>,
    applied: Option<&'static str>,
}

impl Answer {
    /// Adds its headers.
    pub fn head(&self, headers: &mut HeaderMap) {
        // Answers may be personal: nobody shares them, and only those with a tag are worth keeping at all.
        let keep = if self.etag.is_some() { "private, no-cache" } else { "no-store" };
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(keep));
        if let Some(tag) = self.etag.as_deref().and_then(|tag| HeaderValue::from_str(tag).ok()) {
            headers.insert(header::ETAG, tag);
        }
        if let Some(applied) = self.applied {
            headers.insert(PREFERENCE_APPLIED, HeaderValue::from_static(applied));
        }
    }
}

/// The caller's key for repeating a call.
///
/// # Errors
/// `Fields` for a key that no service takes.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > LONGEST_KEY || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Error::field("Idempotency-Key", format!("is 1 to {LONGEST_KEY} visible ASCII characters")));
    }
    Ok(Some(key))
}

fn request_id<'a>(binding: &Binding, headers: &'a HeaderMap) -> Result<Option<&'a str>> {
    let Some(key) = idempotency_key(headers)? else { return Ok(None) };
    if takes(&binding.rpc.input(), REQUEST_ID) {
        return Ok(Some(key));
    }
    if is_repeatable(binding) {
        return Ok(None);
    }
    let text = "this call keeps no answers, so it can't promise that a key is used once; leave the header out";
    Err(Error::Refused(Failure::new(ErrorKind::InvalidArgument, "idempotency_key_unsupported", text)))
}

/// Whether repeating the call does nothing more, key or not.
pub fn is_repeatable(binding: &Binding) -> bool {
    let options = binding.rpc.method_descriptor_proto().options.clone().unwrap_or_default();
    let level = options.idempotency_level();
    level != IdempotencyLevel::IdempotencyUnknown
        || only_reads(binding.grpc_path.path())
        || matches!(binding.method, Method::GET | Method::PUT | Method::DELETE)
}

fn etags(binding: &Binding, headers: &HeaderMap) -> Result<Vec<String>> {
    if !headers.contains_key(header::IF_MATCH) {
        return Ok(Vec::new());
    }
    if !takes(&binding.rpc.input(), ETAG) {
        return Err(Error::field("If-Match", "is not taken by this call"));
    }
    let wanted: Vec<String> = tags::of(headers, header::IF_MATCH).into_iter().map(Tag::wanted).collect();
    if wanted.is_empty() || wanted.len() > MOST_TAGS {
        return Err(Error::field("If-Match", format!("is 1 to {MOST_TAGS} entity tags, or *")));
    }
    Ok(wanted)
}

/// Whether `message` has a text field of this name that a header may fill.
pub fn takes(message: &MessageDescriptor, field: &str) -> bool {
    message.get_field_by_name(field).is_some_and(|field| field.kind() == prost_reflect::Kind::String && !field.is_list())
}

fn prefers_minimal(headers: &HeaderMap) -> bool {
    let lists = headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split([',', ';'])).any(|wish| wish.trim().eq_ignore_ascii_case(MINIMAL))
}

/// Whether an answer can be asked for again by its tag. What auth says is never kept by anybody.
fn validates(binding: &Binding) -> bool {
    binding.method == Method::GET && binding.service != streamgate_core::ServiceName::Auth
}

fn weak_tag(body: &[u8]) -> String {
    use std::hash::{DefaultHasher, Hasher as _};
    let mut hasher = DefaultHasher::new();
    hasher.write(body);
    format!("W/\"{:016x}\"", hasher.finish())
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;

    use super::*;
    use crate::rest::table::{Found, Table};

    fn with_binding<T>(method: &Method, path: &str, look: impl FnOnce(&Binding) -> T) -> T {
        let table = Table::of(&DescriptorPool::decode(streamgate_proto::FILE_DESCRIPTOR_SET).unwrap()).unwrap();
        let Found::Route { binding, .. } = table.find(method, path).unwrap() else { panic!("{method} {path}") };
        look(binding)
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))])
    }

    #[test]
    fn a_key_is_kept_or_the_call_is_refused() {
        let key = headers("idempotency-key", "k-1");
        let kept = |method, path| with_binding(method, path, |b| Wishes::of(b, &key).map(|w| w.request_id.map(str::to_owned)));
        assert_eq!(kept(&Method::POST, "/api/v1/uploads").unwrap().as_deref(), Some("k-1"));
        assert_eq!(kept(&Method::DELETE, "/api/v1/uploads/u1").unwrap(), None, "deleting again does nothing more");
        assert_eq!(kept(&Method::POST, "/api/v1/upload/complete").unwrap(), None, "completing again gives the same answer");
        let Err(Error::Refused(refused)) = kept(&Method::POST, "/api/v1/auth/login") else { panic!("kept") };
        assert_eq!(refused.reason, "idempotency_key_unsupported");
        assert!(idempotency_key(&headers("idempotency-key", "a b")).is_err());
    }

    #[test]
    fn a_condition_that_no_field_takes_is_refused() {
        let if_match = headers("if-match", "\"a\"");
        let refused = with_binding(&Method::DELETE, "/api/v1/uploads/u1", |b| Wishes::of(b, &if_match).is_err());
        assert!(refused);
    }

    #[test]
    fn a_change_may_be_meant_for_one_of_several_versions() {
        let wishes = |text| {
            with_binding(&Method::DELETE, "/api/v1/contents/c1", |b| {
                Wishes::of(b, &headers("if-match", text)).map(|w| (w.etag, w.other_etags))
            })
        };
        assert_eq!(wishes("\"r1\"").unwrap(), (Some("r1".into()), vec![]));
        assert_eq!(wishes("W/\"r1\", \"r2\"").unwrap(), (Some("W/\"r1\"".into()), vec!["r2".into()]));
        assert!(wishes("").is_err() && wishes("a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q").is_err());
    }

    #[test]
    fn a_wish_for_little_is_heard_where_something_changes() {
        assert!(prefers_minimal(&headers("prefer", "wait=5, return=minimal")));
        assert!(!prefers_minimal(&headers("prefer", "return=representation")));
    }
}
