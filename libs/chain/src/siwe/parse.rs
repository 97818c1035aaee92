//! From lines to fields, and from fields to a checked message.

use streamgate_core::evm::{Address, ChainId};

use super::{BadMessage, Draft, Message, Moment, grammar};

/// What follows the domain on the first line.
pub(super) const PREAMBLE: &str = " wants you to sign in with your Ethereum account:";

/// Splits a text into fields by the order of its lines. Lines end in LF alone.
pub(super) fn split(text: &str) -> Result<Draft, BadMessage> {
    let mut lines = Lines { rest: text.split('\n').enumerate().peekable(), number: 0 };
    let mut draft = Draft::default();

    let first = lines.next("the domain and the words of a sign-in")?;
    let site = first.strip_suffix(PREAMBLE).ok_or_else(|| lines.fault("the words of a sign-in after the domain"))?;
    match site.split_once("://") {
        Some((scheme, domain)) => (draft.scheme, draft.domain) = (Some(scheme.to_owned()), domain.to_owned()),
        None => draft.domain = site.to_owned(),
    }
    lines.next("an address")?.clone_into(&mut draft.address);
    lines.blank()?;
    // A statement stands between two blank lines; without one, there are just the two.
    let statement = lines.next("a statement or a blank line")?;
    if !statement.is_empty() {
        draft.statement = Some(statement.to_owned());
        lines.blank()?;
    }
    draft.uri = lines.required("URI: ")?;
    draft.version = lines.required("Version: ")?;
    draft.chain_id = lines.required("Chain ID: ")?;
    draft.nonce = lines.required("Nonce: ")?;
    draft.issued_at = lines.required("Issued At: ")?;
    draft.expiration_time = lines.optional("Expiration Time: ");
    draft.not_before = lines.optional("Not Before: ");
    draft.request_id = lines.optional("Request ID: ");
    if lines.optional("Resources:").is_some_and(|rest| rest.is_empty()) {
        let mut resources = Vec::new();
        while let Some(resource) = lines.optional("- ") {
            resources.push(resource);
        }
        draft.resources = Some(resources);
    }
    lines.end()?;
    Ok(draft)
}

struct Lines<'a> {
    rest: std::iter::Peekable<std::iter::Enumerate<std::str::Split<'a, char>>>,
    number: usize,
}

impl<'a> Lines<'a> {
    const fn fault(&self, expected: &'static str) -> BadMessage {
        BadMessage::Line { line: self.number, expected }
    }

    fn next(&mut self, expected: &'static str) -> Result<&'a str, BadMessage> {
        self.number += 1;
        let line = self.rest.next().map(|(_, line)| line);
        line.ok_or_else(|| self.fault(expected))
    }

    fn blank(&mut self) -> Result<(), BadMessage> {
        if self.next("a blank line")?.is_empty() { Ok(()) } else { Err(self.fault("a blank line")) }
    }

    fn required(&mut self, label: &'static str) -> Result<String, BadMessage> {
        let line = self.next(label)?;
        line.strip_prefix(label).map(str::to_owned).ok_or_else(|| self.fault(label))
    }

    fn optional(&mut self, label: &'static str) -> Option<String> {
        let value = self.rest.peek()?.1.strip_prefix(label)?;
        self.number += 1;
        self.rest.next();
        Some(value.to_owned())
    }

    fn end(&mut self) -> Result<(), BadMessage> {
        self.number += 1;
        if self.rest.next().is_none() { Ok(()) } else { Err(self.fault("the end of the message")) }
    }
}

/// Checks every field against the grammar.
pub(super) fn check(draft: Draft) -> Result<Message, BadMessage> {
    let field = |good: bool, field, what| if good { Ok(()) } else { Err(BadMessage::Field { field, what }) };

    field(draft.scheme.as_deref().is_none_or(grammar::is_scheme), "scheme", "must be a URI scheme")?;
    field(grammar::is_authority(&draft.domain), "domain", "must be an RFC 3986 authority")?;
    let address: Address =
        draft.address.parse().map_err(|_| BadMessage::Field { field: "address", what: "must be an address" })?;
    field(address.to_string() == draft.address, "address", "must carry its EIP-55 checksum")?;
    field(
        draft.statement.as_deref().is_none_or(grammar::is_statement),
        "statement",
        "must be one line of URI characters and spaces",
    )?;
    field(grammar::is_uri(&draft.uri), "URI", "must be an RFC 3986 URI")?;
    field(draft.version == "1", "version", "must be 1")?;
    let digits = !draft.chain_id.is_empty() && draft.chain_id.bytes().all(|b| b.is_ascii_digit());
    let number = draft.chain_id.parse().ok().filter(|number| digits && *number > 0);
    let chain = number.map(ChainId::any).ok_or(BadMessage::Field { field: "chain id", what: "must be the number of a chain" })?;
    field(grammar::is_nonce(&draft.nonce), "nonce", "must be at least 8 letters or digits")?;
    field(draft.request_id.as_deref().is_none_or(grammar::is_request_id), "request id", "must be path characters")?;
    let resources_are_uris = draft.resources.iter().flatten().all(|resource| grammar::is_uri(resource));
    field(resources_are_uris, "resources", "must be RFC 3986 URIs")?;

    Ok(Message {
        issued_at: moment("issued at", draft.issued_at)?,
        expires_at: draft.expiration_time.map(|text| moment("expiration time", text)).transpose()?,
        not_before: draft.not_before.map(|text| moment("not before", text)).transpose()?,
        scheme: draft.scheme,
        domain: draft.domain,
        address,
        statement: draft.statement,
        uri: draft.uri,
        chain,
        nonce: draft.nonce,
        request_id: draft.request_id,
        resources: draft.resources,
    })
}

fn moment(field: &'static str, text: String) -> Result<Moment, BadMessage> {
    let at = grammar::moment(&text).map_err(|_| BadMessage::Field { field, what: "must be a time of RFC 3339" })?;
    Ok(Moment { text, at })
}
