//! Requests as strict commands: what the wire says, checked once.

use streamgate_chain::{Query, signature::Signature};
use streamgate_core::{
    Failure, FieldViolation, Role,
    evm::{Address, BadWord, ChainId, Wallet},
    gate::Gate,
    ids::{AccountId, ApiKeyId, ChallengeId, ContentId, PlaybackId, SessionId},
};
use streamgate_proto::streamgate::{
    auth::v1 as pb,
    gate::v1::{Rule, rule::Kind},
};

use crate::engine::PlaybackGrant;

/// Characters of an API key's name.
const API_KEY_NAME: usize = 100;
/// Bytes of a text whose signature is looked at.
const SIGNED_TEXT: usize = 4096;
/// Accounts of one viewer.
const ACCOUNTS: usize = 16;
/// Gates of one request.
const QUERIES: usize = 1000;
/// Accounts whose roles one request asks for.
const ROLES: usize = 1000;
/// A playback token lives a day at the most.
const PLAYBACK_TTL_SECONDS: u32 = 86_400;

fn word<T: std::str::FromStr<Err = BadWord>>(field: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|what: BadWord| Failure::invalid_field(field, what.to_string()))
}

fn id<T: std::str::FromStr<Err = streamgate_core::ids::BadId>>(field: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|what: streamgate_core::ids::BadId| Failure::invalid_field(field, what.to_string()))
}

/// For whom a challenge is asked.
#[derive(Debug)]
pub struct NewChallenge {
    /// Whose key will sign.
    pub address: Address,
    /// The chain the wallet is on.
    pub chain: ChainId,
    /// The page that asks; empty for the platform's own.
    pub origin: String,
}

impl TryFrom<pb::CreateChallengeRequest> for NewChallenge {
    type Error = Failure;

    fn try_from(request: pb::CreateChallengeRequest) -> Result<Self, Failure> {
        let address = word("address", &request.address)?;
        let number = if request.chain_id == 0 { ChainId::ETHEREUM.number() } else { request.chain_id };
        let chain = ChainId::new(number).map_err(|what| Failure::invalid_field("chain_id", what.to_string()))?;
        Ok(Self { address, chain, origin: request.origin })
    }
}

/// A signed challenge.
pub fn login(request: &pb::LoginRequest) -> Result<(ChallengeId, Signature), Failure> {
    let challenge = id("challenge_id", &request.challenge_id)?;
    let signature =
        Signature::from_hex(&request.signature).map_err(|what| Failure::invalid_field("signature", what.to_string()))?;
    Ok((challenge, signature))
}

/// Whether a signature over a text is an address's. One that is no signature at all is nobody's.
pub fn is_signed_by(request: &pb::VerifySignatureRequest) -> Result<bool, Failure> {
    let address: Address = word("address", &request.address)?;
    if request.message.len() > SIGNED_TEXT {
        return Err(Failure::invalid_field("message", format!("must have at most {SIGNED_TEXT} bytes")));
    }
    let signer = Signature::from_hex(&request.signature).and_then(|signature| signature.signer_of(request.message.as_bytes()));
    Ok(signer == Ok(address))
}

/// Does a wallet hold an NFT?
#[derive(Debug)]
pub struct NftQuery {
    /// Which wallet; the caller's own when absent.
    pub wallet: Option<Wallet>,
    /// The NFT as a gate of one leaf.
    pub gate: Gate,
}

impl TryFrom<pb::VerifyNftRequest> for NftQuery {
    type Error = Failure;

    fn try_from(request: pb::VerifyNftRequest) -> Result<Self, Failure> {
        let nft = request.nft.ok_or_else(|| Failure::invalid_field("nft", "must say which collection"))?;
        let rule = Rule { kind: Some(Kind::Erc721(nft)) };
        let gate = Gate::try_from(rule).map_err(|faults| renamed(faults, "gate.erc721", "nft"))?;
        let wallet = if request.address.is_empty() { None } else { Some(wallet("address", &request.address)?) };
        Ok(Self { wallet, gate })
    }
}

fn renamed(faults: Vec<FieldViolation>, from: &str, to: &str) -> Failure {
    let rename = |fault: FieldViolation| match fault.field.strip_prefix(from) {
        Some(rest) => FieldViolation::new(format!("{to}{rest}"), fault.description),
        None => fault,
    };
    Failure::invalid(faults.into_iter().map(rename).collect())
}

/// A CAIP-10 account, or a plain address.
fn wallet(field: &str, text: &str) -> Result<Wallet, Failure> {
    if text.starts_with("0x") {
        return Ok(Wallet { chain: ChainId::ETHEREUM, address: word(field, text)? });
    }
    word(field, text)
}

fn query(gate: Option<Rule>, accounts: &[String], prefix: &str) -> Result<Query, Failure> {
    if accounts.len() > ACCOUNTS {
        return Err(Failure::invalid_field(format!("{prefix}accounts"), format!("must hold at most {ACCOUNTS} accounts")));
    }
    let wallets = accounts.iter().enumerate().map(|(place, text)| wallet(&format!("{prefix}accounts[{place}]"), text));
    let wallets = wallets.collect::<Result<_, _>>()?;
    let gate = Gate::try_from(gate.unwrap_or_default()).map_err(|faults| renamed(faults, "gate", &format!("{prefix}gate")))?;
    Ok(Query { gate, wallets })
}

/// One gate to explain.
pub fn explain(request: pb::ExplainGateRequest) -> Result<Query, Failure> {
    query(request.gate, &request.accounts, "")
}

/// Many gates to answer. One that can't be read, such as an old one on a chain that has been shut down since, is no
/// reason to answer none of the others: they belong to other titles.
pub fn evaluate(request: pb::EvaluateGatesRequest) -> Result<Vec<Result<Query, Failure>>, Failure> {
    if request.queries.len() > QUERIES {
        return Err(Failure::invalid_field("queries", format!("must hold at most {QUERIES} queries")));
    }
    let queries = request.queries.into_iter().enumerate();
    Ok(queries.map(|(place, one)| query(one.gate, &one.accounts, &format!("queries[{place}]."))).collect())
}

/// A role that is named.
pub fn role(value: i32) -> Result<Role, Failure> {
    match pb::Role::try_from(value) {
        Ok(pb::Role::Viewer) => Ok(Role::Viewer),
        Ok(pb::Role::Creator) => Ok(Role::Creator),
        Ok(pb::Role::Operator) => Ok(Role::Operator),
        Ok(pb::Role::Unspecified) | Err(_) => {
            Err(Failure::invalid_field("role", "must be ROLE_VIEWER, ROLE_CREATOR or ROLE_OPERATOR"))
        }
    }
}

/// An account's id.
pub fn account_id(text: &str) -> Result<AccountId, Failure> {
    id("account_id", text)
}

/// Accounts whose roles are asked for.
pub fn account_ids(request: &pb::GetAccountRolesRequest) -> Result<Vec<AccountId>, Failure> {
    if request.account_ids.len() > ROLES {
        return Err(Failure::invalid_field("account_ids", format!("must hold at most {ROLES} accounts")));
    }
    let accounts = request.account_ids.iter().enumerate();
    accounts.map(|(place, text)| id(&format!("account_ids[{place}]"), text)).collect()
}

/// An API key's id.
pub fn api_key_id(text: &str) -> Result<ApiKeyId, Failure> {
    id("key_id", text)
}

/// What an API key is called.
pub fn api_key_name(text: &str) -> Result<String, Failure> {
    let name = text.trim();
    if name.is_empty() || name.chars().count() > API_KEY_NAME || name.chars().any(char::is_control) {
        return Err(Failure::invalid_field("name", format!("must have 1 to {API_KEY_NAME} characters")));
    }
    Ok(name.to_owned())
}

impl TryFrom<pb::IssuePlaybackTokenRequest> for PlaybackGrant {
    type Error = Failure;

    fn try_from(request: pb::IssuePlaybackTokenRequest) -> Result<Self, Failure> {
        if !(1..=PLAYBACK_TTL_SECONDS).contains(&request.ttl_seconds) {
            return Err(Failure::invalid_field("ttl_seconds", format!("must be 1 to {PLAYBACK_TTL_SECONDS}")));
        }
        let is_subject = request.subject.is_empty()
            || request.subject.parse::<AccountId>().is_ok()
            || request.subject.parse::<Wallet>().is_ok();
        if !is_subject {
            return Err(Failure::invalid_field("subject", "must be a CAIP-10 wallet, an account id, or empty"));
        }
        let is_hash = request.gate_hash.is_empty() || (request.gate_hash.len() == 64 && hex::decode(&request.gate_hash).is_ok());
        if !is_hash {
            return Err(Failure::invalid_field("gate_hash", "must be 64 hex digits, or empty"));
        }
        Ok(Self {
            session_id: id::<SessionId>("session_id", &request.session_id)?.into(),
            playback_id: id::<PlaybackId>("playback_id", &request.playback_id)?.into(),
            content_id: id::<ContentId>("content_id", &request.content_id)?.into(),
            subject: request.subject,
            gate_hash: request.gate_hash,
            ttl_seconds: request.ttl_seconds,
        })
    }
}
