//! Roles as they are now, for services that let somebody go on without a new token.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use streamgate_core::ids::AccountId;
use streamgate_proto::streamgate::auth::v1 as pb;
use streamgate_testkit::LogCapture;
use support::{Service, Wallet, bearer, operator, reason};

async fn roles(service: &Service, accounts: &[&str]) -> Vec<pb::Role> {
    let account_ids = accounts.iter().map(|id| (*id).to_owned()).collect();
    let request = pb::GetAccountRolesRequest { account_ids };
    let roles = service.running.mesh().auth().get_account_roles(request).await.unwrap().into_inner().roles;
    roles.into_iter().map(|role| pb::Role::try_from(role).unwrap()).collect()
}

async fn a_service_learns_a_new_role_and_a_revoked_key_at_once() {
    let service = Service::start().await;
    let operator = service.sign_in(&operator()).await;
    let token = operator.access_token.as_str();
    let viewer = service.sign_in(&Wallet::new(1)).await.account.unwrap().account_id;
    let key = pb::CreateApiKeyRequest { name: "nightly".into(), role: pb::Role::Operator.into() };
    let key = service.client().create_api_key(bearer(key, token)).await.unwrap().into_inner();
    let machine = service.account(&key.secret).await.unwrap().account_id;
    let nobody = AccountId::new();
    let all = [operator.account.as_ref().unwrap().account_id.as_str(), &viewer, nobody.as_str(), &machine, &viewer];
    let before = [pb::Role::Operator, pb::Role::Viewer, pb::Role::Unspecified, pb::Role::Operator, pb::Role::Viewer];
    assert_eq!(roles(&service, &all).await, before, "in order, each as often as it is asked for");

    let promote = pb::SetAccountRoleRequest { account_id: viewer.clone(), role: pb::Role::Creator.into() };
    service.client().set_account_role(bearer(promote, token)).await.unwrap();
    let revoke = pb::RevokeApiKeyRequest { key_id: key.api_key.unwrap().key_id };
    service.client().revoke_api_key(bearer(revoke, token)).await.unwrap();
    let after = [pb::Role::Operator, pb::Role::Creator, pb::Role::Unspecified, pb::Role::Unspecified, pb::Role::Creator];
    assert_eq!(roles(&service, &all).await, after);
}

async fn roles_are_told_to_services_alone_and_for_so_many_accounts() {
    let service = Service::start().await;
    let token = service.sign_in(&operator()).await.access_token;
    let ask = |account_ids: Vec<String>| pb::GetAccountRolesRequest { account_ids };
    assert_eq!(reason(service.client().get_account_roles(bearer(ask(Vec::new()), &token)).await), "internal_only");
    for bad in [vec!["acc_1".to_owned()], vec![AccountId::new().to_string(); 1001]] {
        let refused = service.running.mesh().auth().get_account_roles(ask(bad)).await;
        assert_eq!(reason(refused), "invalid_argument");
    }
    assert!(roles(&service, &[]).await.is_empty());
}

async fn the_most_accounts_of_a_call_are_told_in_order() {
    let service = Service::start().await;
    let operator = service.sign_in(&operator()).await.account.unwrap().account_id;
    let viewer = service.sign_in(&Wallet::new(1)).await.account.unwrap().account_id;
    let nobody = AccountId::new().to_string();
    let known = [(&operator, pb::Role::Operator), (&viewer, pb::Role::Viewer), (&nobody, pb::Role::Unspecified)];
    let asked: Vec<_> = known.into_iter().cycle().take(1000).collect();
    let ids: Vec<&str> = asked.iter().map(|(id, _)| id.as_str()).collect();
    let expected: Vec<pb::Role> = asked.iter().map(|(_, role)| *role).collect();
    assert_eq!(roles(&service, &ids).await, expected);
}

async fn a_start_tells_of_operators_that_are_not_listed() {
    let service = Service::start().await;
    for wallet in [operator(), Wallet::new(1), Wallet::new(2)] {
        service.sign_in(&wallet).await;
    }
    let token = service.sign_in(&operator()).await.access_token;
    let key = pb::CreateApiKeyRequest { name: "nightly".into(), role: pb::Role::Operator.into() };
    service.client().create_api_key(bearer(key, &token)).await.unwrap();
    let left = Wallet::new(1).address().lower();
    let mut tx = service.database().await.begin().await.unwrap();
    let written = sqlx::query("UPDATE accounts SET role = 'operator' WHERE address = $1").bind(left.as_str());
    written.execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();

    let (log, guard) = LogCapture::start();
    service.beside(&[operator()]).await;
    drop(guard);
    let told: Vec<String> =
        log.troubles().into_iter().map(|line| line.text).filter(|text| text.contains("operator_wallets")).collect();
    assert!(told.len() == 1 && told[0].to_lowercase().contains(&left), "{told:?}");
}

streamgate_testkit::on_both_engines! {
    support:
    a_service_learns_a_new_role_and_a_revoked_key_at_once,
    roles_are_told_to_services_alone_and_for_so_many_accounts,
    the_most_accounts_of_a_call_are_told_in_order,
    a_start_tells_of_operators_that_are_not_listed,
}
