//! Decode, call, encode.

use streamgate_core::{Account, Caller, Role, gate::Verdict, time::to_timestamp};
use streamgate_proto::streamgate::auth::v1::{self as pb, auth_service_server::AuthService};
use tonic::{Request, Response, Status};

use crate::{
    Error, command,
    engine::{AccountRow, ApiKeyRow, Engine, PlaybackGrant, PublicKey, SignedIn},
};

/// The service as gRPC sees it.
#[derive(Debug, Clone)]
pub struct Handler {
    engine: Engine,
}

impl Handler {
    /// Answers from `engine`.
    #[must_use]
    pub const fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl AuthService for Handler {
    async fn create_challenge(
        &self,
        request: Request<pb::CreateChallengeRequest>,
    ) -> Result<Response<pb::CreateChallengeResponse>, Status> {
        let wanted = command::NewChallenge::try_from(request.into_inner())?;
        let challenge = self.engine.create_challenge(wanted.address, wanted.chain, &wanted.origin).await?;
        Ok(Response::new(pb::CreateChallengeResponse {
            challenge_id: challenge.id.into(),
            message: challenge.message,
            expires_at: Some(to_timestamp(challenge.expires_at)),
        }))
    }

    async fn login(&self, request: Request<pb::LoginRequest>) -> Result<Response<pb::LoginResponse>, Status> {
        let (challenge, signature) = command::login(request.get_ref())?;
        let SignedIn { access_token, refresh_token, expires_at, account } = self.engine.login(&challenge, &signature).await?;
        let (expires_at, account) = (Some(to_timestamp(expires_at)), Some(account.into()));
        Ok(Response::new(pb::LoginResponse { access_token, refresh_token, expires_at, account }))
    }

    async fn refresh_token(
        &self,
        request: Request<pb::RefreshTokenRequest>,
    ) -> Result<Response<pb::RefreshTokenResponse>, Status> {
        let signed_in = self.engine.refresh(&request.get_ref().refresh_token).await?;
        let SignedIn { access_token, refresh_token, expires_at, account } = signed_in;
        let (expires_at, account) = (Some(to_timestamp(expires_at)), Some(account.into()));
        Ok(Response::new(pb::RefreshTokenResponse { access_token, refresh_token, expires_at, account }))
    }

    async fn logout(&self, request: Request<pb::LogoutRequest>) -> Result<Response<pb::LogoutResponse>, Status> {
        self.engine.logout(&request.get_ref().refresh_token).await?;
        Ok(Response::new(pb::LogoutResponse {}))
    }

    async fn get_account(&self, request: Request<pb::GetAccountRequest>) -> Result<Response<pb::GetAccountResponse>, Status> {
        let caller = Caller::of(&request)?;
        let account = self.engine.account_of(&caller).await?;
        Ok(Response::new(pb::GetAccountResponse { account: Some(account.into()) }))
    }

    async fn set_account_role(
        &self,
        request: Request<pb::SetAccountRoleRequest>,
    ) -> Result<Response<pb::SetAccountRoleResponse>, Status> {
        let request = request.into_inner();
        let (id, role) = (command::account_id(&request.account_id)?, command::role(request.role)?);
        let account = self.engine.set_role(&id, role).await?;
        Ok(Response::new(pb::SetAccountRoleResponse { account: Some(account.into()) }))
    }

    async fn list_accounts(
        &self,
        request: Request<pb::ListAccountsRequest>,
    ) -> Result<Response<pb::ListAccountsResponse>, Status> {
        let request = request.into_inner();
        let page = self.engine.list_accounts(request.page_size, &request.page_token).await?;
        let accounts = page.accounts.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListAccountsResponse { accounts, next_page_token: page.next_page_token }))
    }

    async fn get_jwks(&self, _: Request<pb::GetJwksRequest>) -> Result<Response<pb::GetJwksResponse>, Status> {
        let keys = self.engine.public_keys().into_iter().map(Into::into).collect();
        Ok(Response::new(pb::GetJwksResponse { keys }))
    }

    async fn verify_signature(
        &self,
        request: Request<pb::VerifySignatureRequest>,
    ) -> Result<Response<pb::VerifySignatureResponse>, Status> {
        let valid = command::is_signed_by(request.get_ref())?;
        Ok(Response::new(pb::VerifySignatureResponse { valid }))
    }

    async fn verify_nft(&self, request: Request<pb::VerifyNftRequest>) -> Result<Response<pb::VerifyNftResponse>, Status> {
        let caller = Caller::of(&request)?;
        let query = command::NftQuery::try_from(request.into_inner())?;
        let decision = self.engine.verify_nft(&caller, query).await?;
        let holds = decision.verdict == Verdict::Granted;
        Ok(Response::new(pb::VerifyNftResponse { holds, decision: Some(decision.into()) }))
    }

    async fn verify_token(&self, request: Request<pb::VerifyTokenRequest>) -> Result<Response<pb::VerifyTokenResponse>, Status> {
        let claims = match self.engine.verify_access(&request.get_ref().token).await {
            Ok(claims) => claims,
            Err(Error::Refused(_)) => return Ok(Response::new(pb::VerifyTokenResponse::default())),
            Err(other) => return Err(other.into()),
        };
        let Ok(account) = claims.account() else { return Ok(Response::new(pb::VerifyTokenResponse::default())) };
        let expires_at = Some(to_timestamp(claims.exp * 1000));
        Ok(Response::new(pb::VerifyTokenResponse { valid: true, account: Some(encode(account)), expires_at }))
    }

    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Result<Response<pb::CreateApiKeyResponse>, Status> {
        let request = request.into_inner();
        let (name, role) = (command::api_key_name(&request.name)?, command::role(request.role)?);
        let made = self.engine.create_api_key(&name, role).await?;
        Ok(Response::new(pb::CreateApiKeyResponse { api_key: Some(made.key.into()), secret: made.secret }))
    }

    async fn list_api_keys(&self, request: Request<pb::ListApiKeysRequest>) -> Result<Response<pb::ListApiKeysResponse>, Status> {
        let request = request.into_inner();
        let page = self.engine.list_api_keys(request.page_size, &request.page_token).await?;
        let api_keys = page.keys.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListApiKeysResponse { api_keys, next_page_token: page.next_page_token }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Result<Response<pb::RevokeApiKeyResponse>, Status> {
        let id = command::api_key_id(&request.get_ref().key_id)?;
        let key = self.engine.revoke_api_key(&id).await?;
        Ok(Response::new(pb::RevokeApiKeyResponse { api_key: Some(key.into()) }))
    }

    async fn authenticate_api_key(
        &self,
        request: Request<pb::AuthenticateApiKeyRequest>,
    ) -> Result<Response<pb::AuthenticateApiKeyResponse>, Status> {
        let account = self.engine.authenticate_api_key(&request.get_ref().secret).await?;
        Ok(Response::new(pb::AuthenticateApiKeyResponse { account: Some(encode(account)) }))
    }

    async fn get_account_roles(
        &self,
        request: Request<pb::GetAccountRolesRequest>,
    ) -> Result<Response<pb::GetAccountRolesResponse>, Status> {
        let roles = self.engine.roles(&command::account_ids(request.get_ref())?).await?;
        let roles = roles.into_iter().map(|role| encode_role(role).into()).collect();
        Ok(Response::new(pb::GetAccountRolesResponse { roles }))
    }

    async fn explain_gate(&self, request: Request<pb::ExplainGateRequest>) -> Result<Response<pb::ExplainGateResponse>, Status> {
        let query = command::explain(request.into_inner())?;
        let decision = self.engine.explain(query).await;
        Ok(Response::new(pb::ExplainGateResponse { decision: Some(decision.into()) }))
    }

    async fn evaluate_gates(
        &self,
        request: Request<pb::EvaluateGatesRequest>,
    ) -> Result<Response<pb::EvaluateGatesResponse>, Status> {
        let queries = command::evaluate(request.into_inner())?;
        let decisions = self.engine.evaluate(queries).await.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::EvaluateGatesResponse { decisions }))
    }

    async fn issue_playback_token(
        &self,
        request: Request<pb::IssuePlaybackTokenRequest>,
    ) -> Result<Response<pb::IssuePlaybackTokenResponse>, Status> {
        let grant = PlaybackGrant::try_from(request.into_inner())?;
        let (token, expires_at) = self.engine.issue_playback_token(grant)?;
        Ok(Response::new(pb::IssuePlaybackTokenResponse { token, expires_at: Some(to_timestamp(expires_at)) }))
    }

    async fn list_chains(&self, _: Request<pb::ListChainsRequest>) -> Result<Response<pb::ListChainsResponse>, Status> {
        let chains = self.engine.chains().into_iter().map(|chain| pb::Chain {
            chain: chain.id.to_string(),
            name: chain.name,
            symbol: chain.symbol.to_owned(),
            testnet: chain.testnet,
            configured: chain.configured,
            retired: chain.retired,
        });
        Ok(Response::new(pb::ListChainsResponse { chains: chains.collect() }))
    }
}

/// An account as a token or a key proves it, without what only the database knows.
fn encode(account: Account) -> pb::Account {
    pb::Account {
        account_id: account.id.into(),
        role: account.role.to_string(),
        wallet: account.wallet.unwrap_or_default(),
        create_time: None,
    }
}

const fn encode_role(role: Option<Role>) -> pb::Role {
    match role {
        None => pb::Role::Unspecified,
        Some(Role::Viewer) => pb::Role::Viewer,
        Some(Role::Creator) => pb::Role::Creator,
        Some(Role::Operator) => pb::Role::Operator,
    }
}

impl From<AccountRow> for pb::Account {
    fn from(row: AccountRow) -> Self {
        Self {
            account_id: row.id.into(),
            role: row.role.to_string(),
            wallet: row.wallet.unwrap_or_default(),
            create_time: Some(to_timestamp(row.created_at)),
        }
    }
}

impl From<ApiKeyRow> for pb::ApiKey {
    fn from(row: ApiKeyRow) -> Self {
        Self {
            key_id: row.id.into(),
            name: row.name,
            role: row.role.to_string(),
            create_time: Some(to_timestamp(row.created_at)),
            revoke_time: row.revoked_at.map(to_timestamp),
        }
    }
}

impl From<PublicKey> for pb::Jwk {
    fn from(key: PublicKey) -> Self {
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            kid: key.kid,
            x: key.x,
            alg: "EdDSA".to_owned(),
            r#use: "sig".to_owned(),
        }
    }
}
