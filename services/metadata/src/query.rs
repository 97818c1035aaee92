//! Strict forms of lists and searches: wire types become these at the edge, once.

use prost_types::Timestamp;
use streamgate_core::{
    Failure, FieldViolation,
    evm::{Address, ChainId},
    ids::AccountId,
    time::{UnixMillis, from_timestamp},
};
use streamgate_proto::streamgate::metadata::v1 as pb;

use crate::{
    command::{MAX_TAG_CHARS, refuse},
    engine::{Direction, FacetName, Filter, List, Order, Search, Status, tag_key},
};

/// Characters of a search at the most.
pub const MAX_QUERY_CHARS: usize = 200;
/// Tags of a filter at the most; each costs a look into the index.
pub const MAX_FILTER_TAGS: usize = 8;

/// The filter as it stands in both requests.
struct Wire<'a> {
    status: &'a str,
    tags: &'a [String],
    owner: &'a str,
    created_after: Option<&'a Timestamp>,
    created_before: Option<&'a Timestamp>,
    gate_chain: &'a str,
    gate_contract: &'a str,
}

impl TryFrom<&pb::ListContentsRequest> for List {
    type Error = Failure;

    fn try_from(request: &pb::ListContentsRequest) -> Result<Self, Failure> {
        let mut fields = Vec::new();
        let wire = Wire {
            status: &request.status,
            tags: &request.tags,
            owner: &request.owner,
            created_after: request.created_after.as_ref(),
            created_before: request.created_before.as_ref(),
            gate_chain: &request.gate_chain,
            gate_contract: &request.gate_contract,
        };
        let filter = wire.filter(&mut fields);
        let order = order(&request.order_by, "create_time desc", &mut fields);
        if request.deleted && (!filter.tags.is_empty() || filter.gate_chain.is_some() || filter.gate_contract.is_some()) {
            fields.push(FieldViolation::new("deleted", "deleted titles can't be filtered by tag or gate"));
        }
        refuse(fields)?;
        Ok(Self { filter, order: order.unwrap_or(Order::Created(Direction::Down)), deleted: request.deleted })
    }
}

impl TryFrom<&pb::SearchContentsRequest> for Search {
    type Error = Failure;

    fn try_from(request: &pb::SearchContentsRequest) -> Result<Self, Failure> {
        let mut fields = Vec::new();
        let words = request.query.trim();
        if words.is_empty() || words.chars().count() > MAX_QUERY_CHARS {
            fields.push(FieldViolation::new("query", format!("must be 1 to {MAX_QUERY_CHARS} characters")));
        }
        let wire = Wire {
            status: &request.status,
            tags: &request.tags,
            owner: &request.owner,
            created_after: request.created_after.as_ref(),
            created_before: request.created_before.as_ref(),
            gate_chain: &request.gate_chain,
            gate_contract: &request.gate_contract,
        };
        let filter = wire.filter(&mut fields);
        let order = order(&request.order_by, "relevance", &mut fields);
        let facets = facets(&request.facets, &mut fields);
        refuse(fields)?;
        Ok(Self { words: words.to_owned(), filter, order, facets })
    }
}

impl Wire<'_> {
    fn filter(&self, fields: &mut Vec<FieldViolation>) -> Filter {
        let parsed = Filter {
            status: given(self.status).and_then(|word| keep("status", word.parse::<Status>(), fields)),
            tags: tags(self.tags, fields),
            owner: given(self.owner).and_then(|id| keep("owner", id.parse::<AccountId>(), fields)).map(String::from),
            created_after: moment("created_after", self.created_after, fields),
            created_before: moment("created_before", self.created_before, fields),
            gate_chain: given(self.gate_chain)
                .and_then(|chain| keep("gate_chain", chain.parse::<ChainId>(), fields))
                .map(|chain| chain.to_string()),
            gate_contract: given(self.gate_contract)
                .and_then(|contract| keep("gate_contract", contract.parse::<Address>(), fields))
                .map(|contract| contract.to_string().to_ascii_lowercase()),
        };
        if let (Some(after), Some(before)) = (parsed.created_after, parsed.created_before)
            && after > before
        {
            fields.push(FieldViolation::new("created_before", "must not be before created_after"));
        }
        parsed
    }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn keep<T, E: std::fmt::Display>(field: &str, parsed: Result<T, E>, fields: &mut Vec<FieldViolation>) -> Option<T> {
    parsed.map_err(|bad| fields.push(FieldViolation::new(field, bad.to_string()))).ok()
}

fn moment(field: &str, at: Option<&Timestamp>, fields: &mut Vec<FieldViolation>) -> Option<UnixMillis> {
    let at = at?;
    if !(0..1_000_000_000).contains(&at.nanos) {
        fields.push(FieldViolation::new(field, "must be a time"));
    }
    Some(from_timestamp(at))
}

fn tags(given: &[String], fields: &mut Vec<FieldViolation>) -> Vec<String> {
    let is_tag = |tag: &String| (1..=MAX_TAG_CHARS).contains(&tag.trim().chars().count());
    if given.len() > MAX_FILTER_TAGS || !given.iter().all(is_tag) {
        fields.push(FieldViolation::new(
            "tags",
            format!("must be at most {MAX_FILTER_TAGS} tags of 1 to {MAX_TAG_CHARS} characters"),
        ));
        return Vec::new();
    }
    given.iter().map(|tag| tag_key(tag.trim())).collect()
}

fn order(words: &str, default: &str, fields: &mut Vec<FieldViolation>) -> Option<Order> {
    let mut parts = words.split_whitespace();
    let (field, direction) = (parts.next().unwrap_or_default(), parts.next());
    let direction = match direction {
        None | Some("asc") => Some(Direction::Up),
        Some("desc") => Some(Direction::Down),
        Some(_) => None,
    };
    let order = match (field, direction, parts.next()) {
        ("", _, _) => return None,
        _ if words == default => return default_order(default),
        ("create_time", Some(direction), None) => Order::Created(direction),
        ("update_time", Some(direction), None) => Order::Updated(direction),
        ("title", Some(direction), None) => Order::Title(direction),
        _ => {
            let rule = format!("must be {default}, or create_time, update_time or title, with asc or desc behind it");
            fields.push(FieldViolation::new("order_by", rule));
            return None;
        }
    };
    Some(order)
}

/// `relevance` is the absence of another order.
fn default_order(words: &str) -> Option<Order> {
    (words != "relevance").then_some(Order::Created(Direction::Down))
}

fn facets(names: &[String], fields: &mut Vec<FieldViolation>) -> Vec<FacetName> {
    let known = [FacetName::Status, FacetName::Tag, FacetName::Owner, FacetName::GateChain];
    let mut facets = Vec::new();
    for name in names {
        match known.into_iter().find(|facet| facet.as_str() == name) {
            Some(facet) if !facets.contains(&facet) => facets.push(facet),
            Some(_) => {}
            None => {
                let rule = format!(
                    "{:?} can't be counted; ask for status, tag, owner or gate_chain",
                    name.chars().take(64).collect::<String>()
                );
                fields.push(FieldViolation::new("facets", rule));
                return Vec::new();
            }
        }
    }
    facets
}
