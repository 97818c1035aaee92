//! Tokens and API keys of a real sign-in service, as the other services see them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use common::edge;
use streamgate_client::token::{ACCESS_AUDIENCE, AccessClaims, ISSUER, TokenClass, encode};
use streamgate_core::{Failure, ServiceName, ids::AccountId, time::now_ms};
use streamgate_proto::streamgate::{
    auth::v1::{
        self as pb,
        auth_service_server::{AuthService, AuthServiceServer},
    },
    gateway::v1::{GetVersionRequest, gateway_service_client::GatewayServiceClient},
};
use streamgate_runtime::{Running, Service, testing};
use tonic::{Code, Request, Response, Status};

/// Publishes keys, knows one API key, and counts how often it is asked.
#[derive(Debug, Default)]
struct SignIn {
    keys: Mutex<Vec<pb::Jwk>>,
    asked_for_keys: AtomicUsize,
    asked_for_api_key: AtomicUsize,
}

const API_KEY: &str = "sgk_0123456789abcdef";

impl SignIn {
    fn publish(&self, kid: &str, pair: &Ed25519KeyPair) {
        let x = URL_SAFE_NO_PAD.encode(pair.public_key());
        let (kty, crv, alg, usage) = ("OKP".into(), "Ed25519".into(), "EdDSA".into(), "sig".into());
        self.keys.lock().unwrap().push(pb::Jwk { kty, crv, kid: kid.into(), x, alg, r#use: usage });
    }
}

type Answer<T> = Result<Response<T>, Status>;

/// The RPCs under test, and a refusal for each of the others.
macro_rules! sign_in {
    ($($rpc:ident($request:ident) -> $response:ident;)*) => {
        #[tonic::async_trait]
        impl AuthService for SignIn {
            async fn get_jwks(&self, _: Request<pb::GetJwksRequest>) -> Answer<pb::GetJwksResponse> {
                self.asked_for_keys.fetch_add(1, Ordering::SeqCst);
                Ok(Response::new(pb::GetJwksResponse { keys: self.keys.lock().unwrap().clone() }))
            }

            async fn authenticate_api_key(
                &self,
                request: Request<pb::AuthenticateApiKeyRequest>,
            ) -> Answer<pb::AuthenticateApiKeyResponse> {
                self.asked_for_api_key.fetch_add(1, Ordering::SeqCst);
                if request.get_ref().secret != API_KEY {
                    return Err(Status::unauthenticated("no such key"));
                }
                let account = pb::Account { account_id: AccountId::new().into(), role: "creator".into(), ..pb::Account::default() };
                Ok(Response::new(pb::AuthenticateApiKeyResponse { account: Some(account) }))
            }

            $(async fn $rpc(&self, _: Request<pb::$request>) -> Answer<pb::$response> {
                Err(Status::failed_precondition("not asked for in this test"))
            })*
        }
    };
}

sign_in! {
    create_challenge(CreateChallengeRequest) -> CreateChallengeResponse;
    login(LoginRequest) -> LoginResponse;
    refresh_token(RefreshTokenRequest) -> RefreshTokenResponse;
    logout(LogoutRequest) -> LogoutResponse;
    get_account(GetAccountRequest) -> GetAccountResponse;
    set_account_role(SetAccountRoleRequest) -> SetAccountRoleResponse;
    list_accounts(ListAccountsRequest) -> ListAccountsResponse;
    verify_signature(VerifySignatureRequest) -> VerifySignatureResponse;
    verify_nft(VerifyNftRequest) -> VerifyNftResponse;
    verify_token(VerifyTokenRequest) -> VerifyTokenResponse;
    create_api_key(CreateApiKeyRequest) -> CreateApiKeyResponse;
    list_api_keys(ListApiKeysRequest) -> ListApiKeysResponse;
    revoke_api_key(RevokeApiKeyRequest) -> RevokeApiKeyResponse;
    get_account_roles(GetAccountRolesRequest) -> GetAccountRolesResponse;
    explain_gate(ExplainGateRequest) -> ExplainGateResponse;
    evaluate_gates(EvaluateGatesRequest) -> EvaluateGatesResponse;
    issue_playback_token(IssuePlaybackTokenRequest) -> IssuePlaybackTokenResponse;
    list_chains(ListChainsRequest) -> ListChainsResponse;
}

/// A sign-in service, and an edge that asks it who calls.
struct World {
    sign_in: Arc<SignIn>,
    pair: Ed25519KeyPair,
    auth: Running,
    edge: Running,
}

impl World {
    async fn start() -> Self {
        let (sign_in, pair) = (Arc::new(SignIn::default()), Ed25519KeyPair::generate().unwrap());
        sign_in.publish("k1", &pair);
        let service = Service::new().grpc(AuthServiceServer::from_arc(Arc::clone(&sign_in)));
        let auth = testing::serve(ServiceName::Auth, service).await.unwrap();
        let url = auth.url(ServiceName::Auth).to_owned();
        let mesh = testing::mesh(ServiceName::ApiGateway, &[(ServiceName::Auth, url)]).unwrap();
        let edge = testing::serve(ServiceName::ApiGateway, edge().authenticator(mesh.authenticator())).await.unwrap();
        Self { sign_in, pair, auth, edge }
    }

    fn token(&self, kid: &str, lifetime_s: i64) -> String {
        let now = now_ms() / 1000;
        let claims = AccessClaims {
            iss: ISSUER.into(),
            aud: ACCESS_AUDIENCE.into(),
            sub: AccountId::new().into(),
            role: "creator".into(),
            wallet: Some("eip155:1:0xabc".into()),
            iat: now - 100,
            exp: now + lifetime_s,
            jti: "t".into(),
        };
        encode(TokenClass::Access, kid, &claims, |bytes| self.pair.sign(bytes).as_ref().to_vec()).unwrap()
    }

    /// Who the edge says calls, or the code and reason of its refusal.
    async fn who(&self, credential: &str) -> Result<String, (Code, String)> {
        let mut client = GatewayServiceClient::new(self.edge.mesh().channel(ServiceName::ApiGateway));
        let mut request = Request::new(GetVersionRequest {});
        request.metadata_mut().insert("authorization", format!("Bearer {credential}").parse().unwrap());
        match client.get_version(request).await {
            Ok(response) => Ok(response.into_inner().version),
            Err(status) => Err((status.code(), Failure::from(&status).reason.into_owned())),
        }
    }
}

#[tokio::test]
async fn a_token_is_verified_locally_with_keys_that_are_asked_for_once() {
    let world = World::start().await;
    for _ in 0..5 {
        let who = world.who(&world.token("k1", 600)).await.unwrap();
        assert!(who.contains("Creator") && who.contains("eip155:1:0xabc"), "{who}");
    }
    assert_eq!(world.sign_in.asked_for_keys.load(Ordering::SeqCst), 1);
    let expired = world.who(&world.token("k1", 0)).await.unwrap_err();
    assert_eq!(expired, (Code::Unauthenticated, "token_expired".into()));

    // Keys that are known go on working while auth is away.
    let World { sign_in, pair, auth, edge } = world;
    auth.stop().await;
    let world = World { sign_in, pair, auth: testing::serve(ServiceName::Cache, Service::new()).await.unwrap(), edge };
    world.who(&world.token("k1", 600)).await.unwrap();
    world.edge.stop().await;
    world.auth.stop().await;
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_at_most_once_a_second() {
    let world = World::start().await;
    world.who(&world.token("k1", 600)).await.unwrap();
    for _ in 0..20 {
        let refused = world.who(&world.token("forged", 600)).await.unwrap_err();
        assert_eq!(refused, (Code::Unauthenticated, "token_invalid".into()));
    }
    assert!(world.sign_in.asked_for_keys.load(Ordering::SeqCst) <= 3);
    world.edge.stop().await;
    world.auth.stop().await;
}

#[tokio::test]
async fn a_new_key_is_found_and_without_auth_a_token_with_an_unknown_key_is_neither_good_nor_bad() {
    let mut world = World::start().await;
    world.pair = Ed25519KeyPair::generate().unwrap();
    world.sign_in.publish("k2", &world.pair);
    world.who(&world.token("k2", 600)).await.unwrap();

    let lonely = testing::serve(ServiceName::ApiGateway, edge()).await.unwrap();
    let edge = std::mem::replace(&mut world.edge, lonely);
    let unknown = world.who(&world.token("k2", 600)).await.unwrap_err();
    assert_eq!(unknown, (Code::Unavailable, "identity_unknown".into()));
    edge.stop().await;
    world.edge.stop().await;
    world.auth.stop().await;
}

#[tokio::test]
async fn an_answer_about_an_api_key_is_remembered_whether_good_or_bad() {
    let world = World::start().await;
    let first = world.who(API_KEY).await.unwrap();
    assert!(first.contains("Creator"), "{first}");
    world.who(API_KEY).await.unwrap();
    assert_eq!(world.sign_in.asked_for_api_key.load(Ordering::SeqCst), 1);
    for _ in 0..3 {
        let refused = world.who("sgk_guessed").await.unwrap_err();
        assert_eq!(refused, (Code::Unauthenticated, "token_invalid".into()));
    }
    assert_eq!(world.sign_in.asked_for_api_key.load(Ordering::SeqCst), 2);
    world.edge.stop().await;
    world.auth.stop().await;
}
