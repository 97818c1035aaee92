//! Lists: filters, order, pages, and how the database answers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeSet;

use streamgate_core::{
    Caller, Role,
    ids::AccountId,
    time::{from_timestamp, now_ms},
};
use streamgate_metadata::{
    Config,
    engine::{Direction, FacetName, Filter, List, Order, Search, Status},
};
use streamgate_proto::streamgate::{
    gate::v1::Rule,
    metadata::v1::{self as pb, metadata_service_server::MetadataService},
};
use support::{Fixture, as_account, as_service, call, nft};
use tonic::Code;

const CONTRACT: &str = "0x5fbdb2315678afecb367f032d93f642f64180aa3";

async fn pages_of_250_titles_lose_none_and_repeat_none(titles: Fixture) {
    let owner = as_account(Role::Creator);
    for number in 0..250 {
        titles.create(&owner, &format!("Title {number}")).await;
        if number % 50 == 0 {
            titles.create(&as_account(Role::Creator), "Somebody else's").await;
        }
    }
    let listed = titles.list_all(&owner, 7, "").await;
    let newest_first: Vec<String> = (0..250).rev().map(|number| format!("Title {number}")).collect();
    assert_eq!(listed, newest_first);
    assert_eq!(titles.list_all(&owner, 100, "waiting").await.len(), 250);
    assert_eq!(titles.list_all(&owner, 100, "ready").await.len(), 0);
    assert_eq!(titles.list_all(&as_account(Role::Operator), 100, "").await.len(), 255);
    assert_eq!(titles.list_all(&as_service(), 100, "waiting").await.len(), 255);

    let (mut found, mut page_token) = (BTreeSet::new(), String::new());
    loop {
        let request = pb::SearchContentsRequest { query: "title".into(), page_size: 30, page_token, ..Default::default() };
        let page = titles.handler.search_contents(call(&owner, request)).await.unwrap().into_inner();
        for content in page.contents {
            assert!(found.insert(content.content_id), "a title came twice");
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found.len(), 250);
}

async fn a_title_made_between_two_pages_does_not_disturb_them(titles: Fixture) {
    let owner = as_account(Role::Creator);
    for number in 0..4 {
        titles.create(&owner, &format!("{number}")).await;
    }
    let first = pb::ListContentsRequest { page_size: 2, ..Default::default() };
    let page = titles.handler.list_contents(call(&owner, first)).await.unwrap().into_inner();
    titles.create(&owner, "new").await;
    let second = pb::ListContentsRequest { page_size: 2, page_token: page.next_page_token, ..Default::default() };
    let page = titles.handler.list_contents(call(&owner, second)).await.unwrap().into_inner();
    let names: Vec<&str> = page.contents.iter().map(|content| content.title.as_str()).collect();
    assert_eq!((names.as_slice(), page.next_page_token.as_str()), (["1", "0"].as_slice(), ""));
}

async fn a_bad_page_or_status_is_refused(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let bad = [
        pb::ListContentsRequest { page_size: 101, ..Default::default() },
        pb::ListContentsRequest { page_token: "zz".into(), ..Default::default() },
        pb::ListContentsRequest { status: "done".into(), ..Default::default() },
    ];
    for request in bad {
        assert_eq!(titles.handler.list_contents(call(&owner, request)).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

/// Four titles with different tags, gates and times of edit. The last two were made later than the first two.
async fn assorted(titles: &Fixture, owner: &Caller) -> Vec<pb::Content> {
    let make = |title: &str, tags: &[&str], gate: Option<Rule>| pb::CreateContentRequest {
        title: title.into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        gate,
        ..Default::default()
    };
    let mut made = Vec::new();
    for request in [
        make("beta", &["Pets", "Cats"], Some(nft("eip155:1", CONTRACT))),
        make("Älpha", &["pets"], Some(nft("eip155:137", CONTRACT))),
        make("gamma", &["dogs"], None),
        make("delta", &[], None),
    ] {
        made.push(titles.create_with(owner, request).await.unwrap());
        while made.len() == 2 && now_ms() <= from_timestamp(&made[1].create_time.unwrap()) {
            tokio::task::yield_now().await;
        }
    }
    titles.create_with(&as_account(Role::Creator), make("foreign", &["pets"], Some(nft("eip155:1", CONTRACT)))).await.unwrap();
    made
}

async fn each_filter_leaves_what_it_names(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let made = assorted(&titles, &owner).await;
    titles.deliver(support::failed(&made[3].content_id, "no_media_streams")).await.unwrap();
    let ask = pb::ListContentsRequest::default;
    let cases = [
        (pb::ListContentsRequest { status: "errored".into(), ..ask() }, vec!["delta"]),
        (pb::ListContentsRequest { tags: vec!["PETS".into()], ..ask() }, vec!["Älpha", "beta"]),
        (pb::ListContentsRequest { tags: vec!["pets".into(), "cats".into()], ..ask() }, vec!["beta"]),
        (pb::ListContentsRequest { gate_chain: "eip155:1".into(), ..ask() }, vec!["beta"]),
        (pb::ListContentsRequest { gate_contract: CONTRACT.into(), ..ask() }, vec!["Älpha", "beta"]),
        (pb::ListContentsRequest { gate_chain: "eip155:137".into(), gate_contract: CONTRACT.into(), ..ask() }, vec!["Älpha"]),
        (pb::ListContentsRequest { gate_chain: "eip155:10".into(), ..ask() }, vec![]),
        (pb::ListContentsRequest { created_after: made[2].create_time, ..ask() }, vec!["delta", "gamma"]),
        (pb::ListContentsRequest { owner: made[0].owner.clone(), ..ask() }, vec!["delta", "gamma", "Älpha", "beta"]),
        (pb::ListContentsRequest { owner: AccountId::new().into(), ..ask() }, vec![]),
    ];
    for (request, expected) in cases {
        assert_eq!(titles.list(&owner, request.clone()).await, expected, "{request:?}");
    }
    let operator = as_account(Role::Operator);
    let of_owner = pb::ListContentsRequest { owner: made[0].owner.clone(), tags: vec!["pets".into()], ..ask() };
    assert_eq!(titles.list(&operator, of_owner).await, ["Älpha", "beta"]);
    let with_tag = pb::ListContentsRequest { tags: vec!["pets".into()], ..ask() };
    assert_eq!(titles.list(&operator, with_tag).await.len(), 3);
}

async fn another_owners_titles_are_not_there_whoever_asks_how(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let made = assorted(&titles, &owner).await;
    let stranger = as_account(Role::Creator);
    let ask = pb::ListContentsRequest::default;
    for request in [
        pb::ListContentsRequest { owner: made[0].owner.clone(), ..ask() },
        pb::ListContentsRequest { tags: vec!["pets".into()], ..ask() },
        pb::ListContentsRequest { gate_contract: CONTRACT.into(), ..ask() },
        pb::ListContentsRequest { order_by: "title".into(), ..ask() },
    ] {
        assert!(titles.list(&stranger, request.clone()).await.is_empty(), "{request:?}");
    }
}

async fn every_order_is_kept_over_pages(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let made = assorted(&titles, &owner).await;
    let edit = pb::UpdateContentRequest {
        content_id: made[0].content_id.clone(),
        description: Some("edited last".into()),
        ..Default::default()
    };
    titles.update(&owner, edit).await.unwrap();
    let orders = [
        ("create_time", ["beta", "Älpha", "gamma", "delta"]),
        ("create_time desc", ["delta", "gamma", "Älpha", "beta"]),
        ("title", ["Älpha", "beta", "delta", "gamma"]),
        ("title desc", ["gamma", "delta", "beta", "Älpha"]),
    ];
    for (order_by, expected) in orders {
        for page_size in [1, 3, 4] {
            let request = pb::ListContentsRequest { order_by: order_by.into(), page_size, ..Default::default() };
            assert_eq!(titles.list(&owner, request).await, expected, "{order_by} by {page_size}");
        }
    }
    for (order_by, place) in [("update_time", 3), ("update_time desc", 0)] {
        let request = pb::ListContentsRequest { order_by: order_by.into(), page_size: 1, ..Default::default() };
        assert_eq!(titles.list(&owner, request).await[place], "beta", "{order_by}");
    }
}

async fn a_page_token_is_good_for_its_own_list_only(titles: Fixture) {
    let owner = as_account(Role::Creator);
    assorted(&titles, &owner).await;
    let first = pb::ListContentsRequest { page_size: 1, order_by: "title".into(), ..Default::default() };
    let token = titles.handler.list_contents(call(&owner, first)).await.unwrap().into_inner().next_page_token;
    assert!(!token.is_empty());
    let ask = || pb::ListContentsRequest { page_size: 1, page_token: token.clone(), ..Default::default() };
    for other in [
        ask(),
        pb::ListContentsRequest { order_by: "title desc".into(), ..ask() },
        pb::ListContentsRequest { order_by: "title".into(), tags: vec!["pets".into()], ..ask() },
    ] {
        assert_eq!(titles.handler.list_contents(call(&owner, other)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let same = pb::ListContentsRequest { order_by: "title".into(), ..ask() };
    let foreign = titles.handler.list_contents(call(&as_account(Role::Creator), same)).await;
    assert_eq!(foreign.unwrap_err().code(), Code::InvalidArgument, "nor for another caller");
}

async fn bad_filters_are_named(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let bad = pb::ListContentsRequest {
        status: "done".into(),
        tags: vec![String::new()],
        owner: "me".into(),
        gate_chain: "solana".into(),
        gate_contract: "0x1".into(),
        order_by: "size; DROP TABLE contents".into(),
        ..Default::default()
    };
    let status = titles.handler.list_contents(call(&owner, bad)).await.unwrap_err();
    let fields: Vec<String> = streamgate_core::Failure::from(&status).fields.into_iter().map(|field| field.field).collect();
    assert_eq!(fields, ["status", "tags", "owner", "gate_chain", "gate_contract", "order_by"]);
}

/// Every shape of list and search that a caller can ask for.
fn shapes(owner: &str) -> (Vec<List>, Vec<Search>) {
    let filters = [
        Filter::default(),
        Filter { status: Some(Status::Ready), ..Filter::default() },
        Filter { tags: vec!["a".into()], ..Filter::default() },
        Filter { tags: vec!["a".into(), "b".into()], status: Some(Status::Ready), ..Filter::default() },
        Filter { gate_chain: Some("eip155:1".into()), ..Filter::default() },
        Filter { gate_contract: Some(CONTRACT.into()), created_after: Some(1), ..Filter::default() },
        Filter { created_after: Some(1), created_before: Some(2), ..Filter::default() },
    ];
    let both = |filter: &Filter| [filter.clone(), Filter { owner: Some(owner.to_owned()), ..filter.clone() }];
    let filters: Vec<Filter> = filters.iter().flat_map(both).collect();
    let orders = [Order::Created(Direction::Down), Order::Updated(Direction::Down), Order::Title(Direction::Up)];
    let list = |filter: &Filter, order, deleted| List { filter: filter.clone(), order, deleted };
    let mut lists: Vec<List> = filters.iter().flat_map(|filter| orders.map(|order| list(filter, order, false))).collect();
    lists.push(list(&filters[1], orders[0], true));
    let search = |filter: Filter, order| Search { words: "a b".into(), filter, order, facets: vec![FacetName::Tag] };
    let searches =
        filters.into_iter().flat_map(|filter| [search(filter.clone(), None), search(filter, Some(orders[0]))]).collect();
    (lists, searches)
}

#[tokio::test]
async fn no_list_and_no_search_reads_a_whole_table_on_sqlite() {
    let titles = Fixture::open().await;
    let (lists, searches) = shapes(AccountId::new().as_str());
    let explain = "EXPLAIN QUERY PLAN";
    let mut plans = Vec::new();
    for list in &lists {
        plans.push((format!("{list:?}"), titles.engine.plan_of_list(list, explain).await.unwrap()));
    }
    for search in &searches {
        plans.push((format!("{search:?}"), titles.engine.plan_of_search(search, explain).await.unwrap()));
    }
    for (asked, plan) in plans {
        for step in &plan {
            let is_index = ["VIRTUAL TABLE INDEX", "USING INDEX", "USING COVERING INDEX", "SCAN f", "PRIMARY KEY"];
            assert!(!step.starts_with("SCAN") || is_index.iter().any(|part| step.contains(part)), "{asked}\n{plan:#?}");
        }
    }
}

#[tokio::test]
async fn no_list_and_no_search_reads_a_whole_table_on_postgres() {
    let postgres = streamgate_testkit::engines::Postgres::start().await.unwrap();
    // With an empty table, reading all of it is the best plan; this asks for the best of the others.
    postgres.query("ALTER ROLE streamgate SET enable_seqscan = off").unwrap();
    let server = streamgate_store::PostgresServer::parse(&postgres.url()).unwrap();
    let titles = Fixture::on_postgres(&server, "plans", Config::default()).await;
    let (lists, searches) = shapes(AccountId::new().as_str());
    for list in &lists {
        let plan = titles.engine.plan_of_list(list, "EXPLAIN").await.unwrap();
        assert!(!plan.iter().any(|step| step.contains("Seq Scan")), "{list:?}\n{plan:#?}");
    }
    for search in &searches {
        let plan = titles.engine.plan_of_search(search, "EXPLAIN").await.unwrap();
        assert!(!plan.iter().any(|step| step.contains("Seq Scan")), "{search:?}\n{plan:#?}");
    }
}

support::on_both_engines! {
    pages_of_250_titles_lose_none_and_repeat_none,
    a_title_made_between_two_pages_does_not_disturb_them,
    a_bad_page_or_status_is_refused,
    each_filter_leaves_what_it_names,
    another_owners_titles_are_not_there_whoever_asks_how,
    every_order_is_kept_over_pages,
    a_page_token_is_good_for_its_own_list_only,
    bad_filters_are_named,
}
