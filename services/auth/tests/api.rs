//! Signing in, tokens, roles and keys, over a real connection.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::HashSet;

use futures::future::join_all;
use streamgate_auth::{Config, create_api_key_offline};
use streamgate_client::token::{Jwks, verify_access, verify_playback};
use streamgate_core::{
    Role,
    ids::{ContentId, PlaybackId, SessionId},
    time::now_ms,
};
use streamgate_proto::streamgate::auth::v1 as pb;
use streamgate_testkit::rows::OnServer;
use support::{ORIGIN, Service, Wallet, bearer, operator, reason};

async fn a_wallet_signs_in_and_everybody_can_verify_its_token() {
    let service = Service::start().await;
    let wallet = Wallet::new(1);
    let challenge = service.challenge(wallet.address()).await;
    assert!(challenge.message.starts_with("localhost:9090 wants you to sign in with your Ethereum account:\n"));
    let signed_in = service.login(&challenge.challenge_id, wallet.sign(&challenge.message)).await.unwrap();

    let caip10 = format!("eip155:31337:{}", wallet.address());
    let account = service.account(&signed_in.access_token).await.unwrap();
    assert_eq!((account.role.as_str(), account.wallet.as_str()), ("viewer", caip10.as_str()));

    let jwks = service.client().get_jwks(pb::GetJwksRequest {}).await.unwrap().into_inner();
    let claims = verify_access(&signed_in.access_token, &Jwks::from(&jwks), now_ms()).unwrap();
    assert_eq!((claims.sub, claims.wallet), (account.account_id.clone(), Some(caip10)));
    assert_eq!(claims.exp - claims.iat, 600);

    // The same wallet is the same account, whatever chain it is on.
    let again = service.sign_in(&wallet).await;
    assert_eq!(again.account.unwrap().account_id, account.account_id);
}

async fn of_parallel_logins_with_one_challenge_exactly_one_wins() {
    let service = Service::start().await;
    let wallet = Wallet::new(1);
    let challenge = service.challenge(wallet.address()).await;
    let signature = wallet.sign(&challenge.message);
    let outcomes = join_all((0..16).map(|_| service.login(&challenge.challenge_id, signature.clone()))).await;
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    assert_eq!(won.len(), 1);
    assert!(lost.into_iter().all(|lost| reason(lost) == "challenge_unknown"));
    assert_eq!(reason(service.login(&challenge.challenge_id, signature).await), "challenge_unknown");
}

async fn an_expired_challenge_signs_nobody_in() {
    let service = Service::start().await;
    let wallet = Wallet::new(1);
    let challenge = service.challenge(wallet.address()).await;
    service.change("UPDATE challenges SET expires_at = 1").await;
    assert_eq!(reason(service.login(&challenge.challenge_id, wallet.sign(&challenge.message)).await), "challenge_expired");
}

async fn a_challenge_is_made_for_our_own_origins_only() {
    let service = Service::with(Config { allowed_origins: vec!["https://video.example".into()], ..Config::default() }).await;
    let address = Wallet::new(1).address();
    for (origin, domain) in
        [(ORIGIN, "localhost:9090"), ("http://127.0.0.1:9090", "127.0.0.1:9090"), ("https://video.example", "video.example")]
    {
        let challenge = service.try_challenge(address, origin).await.unwrap();
        assert!(challenge.message.starts_with(&format!("{domain} wants")), "{}", challenge.message);
        assert!(challenge.message.contains(&format!("\nURI: {origin}\n")));
    }
    for origin in ["https://evil.example", "http://localhost:9091", "https://video.example.evil.example", "null"] {
        assert_eq!(reason(service.try_challenge(address, origin).await), "invalid_argument", "{origin}");
    }
}

async fn an_altered_text_or_another_key_is_refused_and_five_failures_use_the_challenge_up() {
    let service = Service::start().await;
    let (wallet, other) = (Wallet::new(1), Wallet::new(2));
    let challenge = service.challenge(wallet.address()).await;
    let foreign = challenge.message.replace("localhost:9090", "evil.example");
    let wrong =
        [wallet.sign(&foreign), other.sign(&challenge.message), wallet.sign(&format!("{} ", challenge.message)), wallet.sign("")];
    for signature in wrong {
        assert_eq!(reason(service.login(&challenge.challenge_id, signature).await), "signature_invalid");
    }
    // Text that is no signature is the caller's mistake, and no try.
    assert_eq!(reason(service.login(&challenge.challenge_id, "0x00".into()).await), "invalid_argument");
    service.login(&challenge.challenge_id, wallet.sign(&challenge.message)).await.unwrap();

    let challenge = service.challenge(wallet.address()).await;
    for _ in 0..5 {
        assert_eq!(reason(service.login(&challenge.challenge_id, other.sign(&challenge.message)).await), "signature_invalid");
    }
    assert_eq!(reason(service.login(&challenge.challenge_id, wallet.sign(&challenge.message)).await), "challenge_unknown");
}

async fn a_flood_of_challenges_stays_bounded_and_the_newest_work() {
    let service = Service::with(Config { challenges_total: 10, ..Config::default() }).await;
    for seed in 10..30 {
        service.challenge(Wallet::new(seed).address()).await;
    }
    let (rows,): (i64,) =
        sqlx::query_as("SELECT count(*) FROM challenges").fetch_one(service.database().await.pool()).await.unwrap();
    assert!(rows <= 10, "{rows} rows");
    service.sign_in(&Wallet::new(1)).await;
}

async fn no_stranger_pushes_out_a_challenge_by_asking_for_its_address() {
    let service = Service::start().await;
    let wallet = Wallet::new(1);
    let challenge = service.challenge(wallet.address()).await;
    for _ in 0..50 {
        service.challenge(wallet.address()).await;
    }
    service.login(&challenge.challenge_id, wallet.sign(&challenge.message)).await.unwrap();
}

async fn a_refresh_token_works_once_and_its_reuse_ends_the_sign_in() {
    let service = Service::start().await;
    let first = service.sign_in(&Wallet::new(1)).await;
    let second = service.refresh(&first.refresh_token).await.unwrap();
    service.account(&second.access_token).await.unwrap();
    service.change("UPDATE refresh_tokens SET used_at = used_at - 10000").await;
    assert_eq!(reason(service.refresh(&first.refresh_token).await), "refresh_token_reused");
    assert_eq!(reason(service.refresh(&second.refresh_token).await), "sign_in_ended");
    assert_eq!(reason(service.refresh("sgr_nothing").await), "token_invalid");

    let other = service.sign_in(&Wallet::new(1)).await;
    let raced = join_all((0..8).map(|_| service.refresh(&other.refresh_token))).await;
    let given: HashSet<String> = raced.into_iter().flatten().map(|answer| answer.refresh_token).collect();
    assert_eq!(given.len(), 1, "a token has one successor");
}

async fn a_lost_answer_to_a_refresh_is_given_again_until_its_token_is_used() {
    let service = Service::start().await;
    let first = service.sign_in(&Wallet::new(1)).await;
    let lost = service.refresh(&first.refresh_token).await.unwrap();
    // However long this machine takes, that was a moment ago.
    service.change("UPDATE refresh_tokens SET used_at = used_at + 3600000").await;
    let again = service.refresh(&first.refresh_token).await.unwrap();
    assert_eq!(again.refresh_token, lost.refresh_token);
    service.account(&again.access_token).await.unwrap();

    let next = service.refresh(&again.refresh_token).await.unwrap();
    assert_eq!(reason(service.refresh(&first.refresh_token).await), "refresh_token_reused");
    assert_eq!(reason(service.refresh(&next.refresh_token).await), "sign_in_ended");
}

async fn logging_out_ends_the_sign_in_and_no_other() {
    let service = Service::start().await;
    let wallet = Wallet::new(1);
    let (here, there) = (service.sign_in(&wallet).await, service.sign_in(&wallet).await);
    for _ in 0..2 {
        let request = pb::LogoutRequest { refresh_token: here.refresh_token.clone() };
        service.client().logout(request).await.unwrap();
    }
    assert_eq!(reason(service.refresh(&here.refresh_token).await), "sign_in_ended");
    service.refresh(&there.refresh_token).await.unwrap();
}

async fn only_an_operator_gives_roles_and_a_new_one_comes_with_the_next_token() {
    let service = Service::start().await;
    let viewer = service.sign_in(&Wallet::new(1)).await;
    let operator = service.sign_in(&operator()).await;
    assert_eq!(operator.account.as_ref().unwrap().role, "operator");
    let account_id = viewer.account.as_ref().unwrap().account_id.clone();

    let promote = pb::SetAccountRoleRequest { account_id: account_id.clone(), role: pb::Role::Creator.into() };
    let refused = service.client().set_account_role(bearer(promote.clone(), &viewer.access_token)).await;
    assert_eq!(reason(refused), "role_too_small");
    assert_eq!(reason(service.client().set_account_role(promote.clone()).await), "credentials_missing");
    service.client().set_account_role(bearer(promote, &operator.access_token)).await.unwrap();

    let refreshed = service.refresh(&viewer.refresh_token).await.unwrap();
    assert_eq!(refreshed.account.unwrap().role, "creator");
    let list = pb::ListAccountsRequest { page_size: 1, page_token: String::new() };
    let first = service.client().list_accounts(bearer(list, &operator.access_token)).await.unwrap().into_inner();
    let rest = pb::ListAccountsRequest { page_size: 1, page_token: first.next_page_token };
    let second = service.client().list_accounts(bearer(rest, &operator.access_token)).await.unwrap().into_inner();
    assert_eq!((first.accounts[0].role.as_str(), second.accounts[0].account_id.as_str()), ("operator", account_id.as_str()));
    assert_eq!(second.next_page_token, "");
}

async fn a_role_given_by_the_list_goes_with_the_list() {
    let service = Service::start().await;
    let listed = service.sign_in(&operator()).await;
    let account = listed.account.unwrap();
    assert_eq!(account.role, "operator");
    let demote = pb::SetAccountRoleRequest { account_id: account.account_id, role: pb::Role::Viewer.into() };
    assert_eq!(reason(service.client().set_account_role(bearer(demote, &listed.access_token)).await), "role_listed");

    let without = service.beside(&[]).await;
    let refreshed = without.refresh(&listed.refresh_token).await.unwrap();
    assert_eq!(refreshed.account.unwrap().role, "viewer");
    assert_eq!(without.sign_in(&operator()).await.account.unwrap().role, "viewer");
    assert_eq!(service.sign_in(&operator()).await.account.unwrap().role, "operator");

    // Releases before this one wrote the role down, and a start with the wallet on the list takes it out again.
    service.change("UPDATE accounts SET role = 'operator'").await;
    let with = service.beside(&[operator()]).await;
    assert_eq!(with.sign_in(&operator()).await.account.unwrap().role, "operator");
    assert_eq!(without.sign_in(&operator()).await.account.unwrap().role, "viewer");
}

async fn an_api_key_works_until_it_is_revoked() {
    let service = Service::start().await;
    let operator = service.sign_in(&operator()).await.access_token;
    let request = pb::CreateApiKeyRequest { name: "nightly upload".into(), role: pb::Role::Creator.into() };
    let made = service.client().create_api_key(bearer(request, &operator)).await.unwrap().into_inner();
    assert!(made.secret.starts_with("sgk_"));
    assert_eq!(service.account(&made.secret).await.unwrap().role, "creator");
    let by_mesh = pb::AuthenticateApiKeyRequest { secret: made.secret.clone() };
    service.running.mesh().auth().authenticate_api_key(by_mesh.clone()).await.unwrap();
    assert_eq!(reason(service.client().authenticate_api_key(bearer(by_mesh, &operator)).await), "internal_only");

    let mut wrong = made.secret.clone();
    let last = if wrong.ends_with('0') { "1" } else { "0" };
    wrong.replace_range(wrong.len() - 1.., last);
    for bad in [wrong.as_str(), "sgk_", "sgk_x_y", &made.secret[..40]] {
        assert_eq!(reason(service.account(bad).await), "token_invalid", "{bad}");
    }
    let key_id = made.api_key.unwrap().key_id;
    service.client().revoke_api_key(bearer(pb::RevokeApiKeyRequest { key_id }, &operator)).await.unwrap();
    assert_eq!(reason(service.account(&made.secret).await), "token_invalid");
    let list = pb::ListApiKeysRequest::default();
    let keys = service.client().list_api_keys(bearer(list, &operator)).await.unwrap().into_inner().api_keys;
    assert!(keys.len() == 1 && keys[0].revoke_time.is_some());
}

async fn a_key_made_on_the_machine_works_while_the_service_runs() {
    let service = Service::start().await;
    let source = service.source();
    let made = create_api_key_offline(&source, "first key", Role::Operator).await.unwrap();
    assert_eq!(service.account(&made.secret).await.unwrap().role, "operator");
    assert!(!format!("{made:?}").contains(&made.secret));
    assert!(create_api_key_offline(&source, " ", Role::Viewer).await.is_err());

    use std::os::unix::fs::PermissionsExt as _;
    let path = service.folder.join("db/auth.db");
    if OnServer::instead_of(&path).is_some() {
        return;
    }
    let mode = std::fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "the database holds signing keys");
}

async fn another_key_signs_after_a_month_when_all_replicas_know_it_and_the_old_one_still_verifies() {
    let first = Service::start().await;
    let kid = |token: &str| token.split('.').next().unwrap().to_owned();
    let before = first.sign_in(&Wallet::new(1)).await.access_token;
    first.change("UPDATE signing_keys SET created_at = created_at - 2678400000").await;
    let second = first.beside(&[]).await;
    let keys = second.client().get_jwks(pb::GetJwksRequest {}).await.unwrap().into_inner();
    assert_eq!(keys.keys.len(), 2);
    let early = second.sign_in(&Wallet::new(1)).await.access_token;
    assert_eq!(kid(&before), kid(&early), "the other replica may not know the new key yet");

    first.change("UPDATE signing_keys SET created_at = created_at - 1800000").await;
    let third = first.beside(&[]).await;
    let after = third.sign_in(&Wallet::new(1)).await.access_token;
    assert_ne!(kid(&before), kid(&after));
    // Also one that could not look for half an hour.
    for service in [&first, &second, &third] {
        for token in [&before, &early, &after] {
            service.account(token).await.unwrap();
        }
    }
}

async fn a_playback_token_is_bound_and_is_no_access_token() {
    let service = Service::start().await;
    let (session, playback, content) = (SessionId::new(), PlaybackId::new(), ContentId::new());
    let request = pb::IssuePlaybackTokenRequest {
        session_id: session.to_string(),
        playback_id: playback.to_string(),
        content_id: content.to_string(),
        subject: format!("eip155:1:{}", Wallet::new(1).address()),
        gate_hash: "ab".repeat(32),
        ttl_seconds: 60,
    };
    assert_eq!(reason(service.client().issue_playback_token(request.clone()).await), "credentials_missing");
    let mut mesh = service.running.mesh().auth();
    let issued = mesh.issue_playback_token(request.clone()).await.unwrap().into_inner();
    let jwks = Jwks::from(mesh.get_jwks(pb::GetJwksRequest {}).await.unwrap().get_ref());
    let claims = verify_playback(&issued.token, &jwks, now_ms()).unwrap();
    assert_eq!(
        (claims.sid, claims.pid, claims.cid, claims.gate),
        (session.into(), playback.into(), content.into(), request.gate_hash.clone())
    );
    assert_eq!(reason(service.account(&issued.token).await), "token_invalid");
    assert!(verify_playback(&issued.token, &jwks, now_ms() + 61_000).is_err());

    let bad = [
        pb::IssuePlaybackTokenRequest { ttl_seconds: 0, ..request.clone() },
        pb::IssuePlaybackTokenRequest { ttl_seconds: 86_401, ..request.clone() },
        pb::IssuePlaybackTokenRequest { session_id: "ses_1".into(), ..request.clone() },
        pb::IssuePlaybackTokenRequest { subject: "root".into(), ..request.clone() },
        pb::IssuePlaybackTokenRequest { gate_hash: "x".into(), ..request },
    ];
    for request in bad {
        assert_eq!(reason(service.running.mesh().auth().issue_playback_token(request).await), "invalid_argument");
    }
}

async fn a_token_that_is_altered_foreign_or_expired_is_refused() {
    let (service, foreign) = (Service::start().await, Service::start().await);
    let good = service.sign_in(&Wallet::new(1)).await.access_token;
    let theirs = foreign.sign_in(&Wallet::new(1)).await.access_token;
    let mut parts: Vec<&str> = good.split('.').collect();
    let other = service.sign_in(&operator()).await.access_token;
    parts[1] = other.split('.').nth(1).unwrap();
    let altered = parts.join(".");
    for token in [theirs.as_str(), &altered, "x", "a.b.c"] {
        assert_eq!(reason(service.account(token).await), "token_invalid", "{token}");
        let verified = service.client().verify_token(pb::VerifyTokenRequest { token: token.into() }).await.unwrap();
        assert_eq!(verified.into_inner(), pb::VerifyTokenResponse::default());
    }
    let verified = service.client().verify_token(pb::VerifyTokenRequest { token: good }).await.unwrap().into_inner();
    assert!(verified.valid && verified.account.unwrap().role == "viewer");
}

async fn a_signature_is_the_signers_and_nobody_elses() {
    let service = Service::start().await;
    let wallet = Wallet::new(1);
    let ask = |address: String, message: &str, signature: String| pb::VerifySignatureRequest {
        address,
        message: message.into(),
        signature,
    };
    let own = wallet.address().to_string();
    let cases = [
        (ask(own.clone(), "hello", wallet.sign("hello")), true),
        (ask(own.clone(), "hullo", wallet.sign("hello")), false),
        (ask(Wallet::new(2).address().to_string(), "hello", wallet.sign("hello")), false),
        (ask(own.clone(), "hello", "0x".into()), false),
    ];
    for (request, valid) in cases {
        assert_eq!(service.client().verify_signature(request).await.unwrap().into_inner().valid, valid);
    }
    let bad = ask("0x12".into(), "hello", wallet.sign("hello"));
    assert_eq!(reason(service.client().verify_signature(bad).await), "invalid_argument");
    let long = ask(own, &"x".repeat(4097), wallet.sign("x"));
    assert_eq!(reason(service.client().verify_signature(long).await), "invalid_argument");
}

streamgate_testkit::on_both_engines! {
    support:
    a_wallet_signs_in_and_everybody_can_verify_its_token,
    of_parallel_logins_with_one_challenge_exactly_one_wins,
    an_expired_challenge_signs_nobody_in,
    a_challenge_is_made_for_our_own_origins_only,
    an_altered_text_or_another_key_is_refused_and_five_failures_use_the_challenge_up,
    a_flood_of_challenges_stays_bounded_and_the_newest_work,
    a_refresh_token_works_once_and_its_reuse_ends_the_sign_in,
    logging_out_ends_the_sign_in_and_no_other,
    only_an_operator_gives_roles_and_a_new_one_comes_with_the_next_token,
    an_api_key_works_until_it_is_revoked,
    a_key_made_on_the_machine_works_while_the_service_runs,
    another_key_signs_after_a_month_when_all_replicas_know_it_and_the_old_one_still_verifies,
    a_role_given_by_the_list_goes_with_the_list,
    a_lost_answer_to_a_refresh_is_given_again_until_its_token_is_used,
    no_stranger_pushes_out_a_challenge_by_asking_for_its_address,
    a_playback_token_is_bound_and_is_no_access_token,
    a_token_that_is_altered_foreign_or_expired_is_refused,
    a_signature_is_the_signers_and_nobody_elses,
}
