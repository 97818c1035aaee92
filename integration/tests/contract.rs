//! Every RPC and every REST binding of the contracts, with every kind of input, as every kind of caller. Who may is
//! computed from what the contracts declare.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use serde_json::{Value, json};
use streamgate_core::{Access, service::ServiceName};
use streamgate_integration::{
    contract::{Answer, Credentials, Doors, Ids, Input, Kind, Rpc, Sample, Who},
    rest::Rest,
    stage::{Stage, ready},
};
use streamgate_testkit::{Platform, default_clip};

/// A creator's key with everything that creators own, and what it all looks like.
struct Account {
    rest: Rest,
    ids: Ids,
}

impl Account {
    async fn new(stage: &Stage, title: &str) -> Self {
        let rest = stage.anonymous().with_bearer(stage.platform.api_key("creator").unwrap());
        let mut ids = Ids::default();
        let sent = rest.upload(&default_clip(), title).await.unwrap();
        let content_id = sent["content_id"].as_str().unwrap().to_owned();
        ids.set("", "content_id", &content_id);
        let begin = json!({"filename": "open.mp4", "size_bytes": "6"});
        let open = rest.post("/api/v1/uploads", &begin).await.unwrap().expect(200).unwrap().json().unwrap();
        ids.set("", "upload_id", open["upload"]["upload_id"].as_str().unwrap());
        rest.set_gate(&content_id, &stage.pass.gate(stage.anvil.chain_id())).await.unwrap();
        let content = ready(&rest, &content_id).await.unwrap();
        let playback_id = content["playback_ids"][0].as_str().unwrap();
        ids.set("", "playback_id", playback_id);
        ids.set("", "session_id", &rest.session(playback_id).await.unwrap().session_id);
        let jobs = rest.get("/api/v1/transcode/jobs").await.unwrap().expect(200).unwrap().json().unwrap();
        ids.set("transcoder", "job_id", jobs["jobs"][0]["job_id"].as_str().unwrap());
        let hook = rest.post("/api/v1/webhooks", &json!({"url": "https://example.org/hook"})).await.unwrap();
        ids.take("worker", &hook.json().unwrap_or_default());
        Self { rest, ids }
    }

    /// What must not change when others call: each thing that it owns.
    async fn picture(&self) -> Vec<Value> {
        let mut seen = Vec::new();
        let lists = [("contents", "contents"), ("uploads", "uploads"), ("transcode/jobs", "jobs"), ("webhooks", "endpoints")];
        for (path, name) in lists {
            let reply = self.rest.get(&format!("/api/v1/{path}")).await.unwrap().expect(200).unwrap();
            let mut things = reply.json().unwrap()[name].as_array().cloned().unwrap();
            // The platform's own finding about an address outside.
            things.iter_mut().filter_map(Value::as_object_mut).for_each(|thing| drop(thing.remove("failing_since")));
            seen.append(&mut things);
        }
        seen
    }
}

struct Scene {
    stage: Stage,
    doors: Doors,
    credentials: Credentials,
    sample: Sample,
    owner: Account,
    other: Account,
    /// Things that belong to nobody in particular.
    operators: Ids,
    complaints: BTreeSet<String>,
    calls: usize,
    done: BTreeSet<&'static str>,
    /// Why good input was refused.
    refused: BTreeMap<&'static str, String>,
}

impl Scene {
    async fn set() -> Self {
        let unlimited = ["IDENTITY", "ADDRESS", "MEDIA"].iter().fold(Platform::builder(), |builder, what| {
            builder.env(format!("STREAMGATE_API_GATEWAY__RATES__{what}_PER_SECOND"), "0")
        });
        let stage = Stage::start_with(unlimited).await.unwrap();
        stage.pass.mint(stage.holder.address()).await.unwrap();
        let (owner, other) = (Account::new(&stage, "a private title").await, Account::new(&stage, "another title").await);
        let viewer = stage.viewer().await.unwrap();
        let operator = stage.anonymous().with_bearer(stage.platform.api_key("operator").unwrap());
        let secret = fs::read_to_string(stage.platform.data_dir().join("secrets/mesh.key")).unwrap();
        let credentials = Credentials {
            viewer: viewer.bearer().unwrap().to_owned(),
            owner: owner.rest.bearer().unwrap().to_owned(),
            other_creator: other.rest.bearer().unwrap().to_owned(),
            operator: operator.bearer().unwrap().to_owned(),
            mesh_secret: secret.trim().to_owned(),
        };
        let doors = Doors::new(&stage.platform.url()).unwrap();
        let operators = operators_ids(&stage, &operator).await;
        let words =
            [("address", stage.holder.checksummed()), ("wallet", stage.holder.checksummed()), ("contract", stage.pass.address())];
        let account = format!("eip155:{}:{}", stage.anvil.chain_id(), stage.holder.checksummed());
        let mut sample = Sample::default();
        sample.words = words.into_iter().chain([("accounts", account)]).collect();
        Self {
            stage,
            doors,
            credentials,
            sample,
            owner,
            other,
            operators,
            complaints: BTreeSet::new(),
            calls: 0,
            done: BTreeSet::new(),
            refused: BTreeMap::new(),
        }
    }

    /// The ids that a caller's request names.
    fn ids(&self, who: Who, input: Input) -> Ids {
        let owners = match (who, input) {
            (Who::Owner, Input::Foreign) => &self.other.ids,
            (Who::OtherCreator, Input::Foreign) | (Who::Owner, _) => &self.owner.ids,
            (Who::OtherCreator, _) => &self.other.ids,
            _ => &self.owner.ids,
        };
        self.operators.with(owners)
    }

    /// Calls an RPC through every door that is open to this caller.
    async fn call(&mut self, rpc: &Rpc, who: Who, input: Input) {
        let ids = self.ids(who, input);
        let message = rpc.method.input();
        let request = |sample: &Sample| match input {
            Input::Good | Input::Foreign | Input::Garbage => sample.good(&message, &ids),
            Input::Missing | Input::Oversize => prost_reflect::DynamicMessage::new(message.clone()),
            Input::Absurd => sample.absurd(&message),
        };
        let headers = self.credentials.headers(who).unwrap();
        for service in &rpc.served_by {
            let port = self.stage.platform.ports().of(port_name(*service));
            let answer = self.doors.grpc(port, rpc, headers.clone(), input, &request(&self.sample)).await;
            self.judge(rpc, who, input, "gRPC", answer, &ids);
        }
        if who.is_inside() {
            return;
        }
        let edge = self.stage.platform.ports().of("gateway");
        let answer = self.doors.grpc(edge, rpc, headers.clone(), input, &request(&self.sample)).await;
        self.judge(rpc, who, input, "gRPC at the edge", answer, &ids);
        for binding in &rpc.bindings {
            let answer = self.doors.rest(binding, headers.clone(), input, &request(&self.sample)).await;
            self.judge(rpc, who, input, &format!("{} {}", binding.method, binding.template), answer, &ids);
        }
    }

    fn judge(&mut self, rpc: &Rpc, who: Who, input: Input, door: &str, answer: anyhow::Result<Answer>, ids: &Ids) {
        self.calls += 1;
        let call = format!("{} through {door} as {who:?} with {input:?} input", rpc.path);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                self.complaints.insert(format!("{call}: no answer: {error:#}"));
                return;
            }
        };
        match answer.kind {
            Kind::Done if input == Input::Good => drop(self.done.insert(rpc.path)),
            _ if input == Input::Good && who.sees_all() => drop(self.refused.insert(rpc.path, answer.said.clone())),
            _ => {}
        }
        if let Some(wrong) = wrong_with(rpc, who, input, door, &answer, ids, self) {
            self.complaints.insert(format!("{call}: {wrong}: {}", answer.said));
        }
    }
}

/// What is wrong with an answer, if anything is.
fn wrong_with(rpc: &Rpc, who: Who, input: Input, door: &str, answer: &Answer, ids: &Ids, scene: &Scene) -> Option<&'static str> {
    let admitted = who.is_admitted(rpc.access);
    let sound = matches!(input, Input::Good | Input::Foreign);
    match answer.kind {
        // What tonic itself says of bytes that are no message; no handler has run.
        Kind::Fault if input == Input::Garbage && answer.said.contains("decode") => None,
        // The edge does not have what only services may call.
        Kind::Fault if rpc.access == Access::Internal && door.contains("edge") && answer.said.starts_with("gRPC 12") => None,
        Kind::Fault => Some("a fault"),
        Kind::Done if !admitted => Some("an unexpected allow"),
        Kind::Done if matches!(input, Input::Garbage | Input::Oversize) => Some("a request that can't be read was done"),
        Kind::Done if input == Input::Foreign && !who.sees_all() => foreign_done(rpc, answer, ids, scene),
        Kind::Unauthenticated | Kind::Denied if admitted && input == Input::Good && may_surely(rpc, who) => {
            Some("an unexpected refusal")
        }
        Kind::Refused if !admitted && sound && rpc.access != Access::Internal && !door.contains('/') => {
            Some("refused, but not for who calls")
        }
        _ => None,
    }
}

/// A call that names things of others may be done only when it shows and touches none of them.
fn foreign_done(rpc: &Rpc, answer: &Answer, ids: &Ids, scene: &Scene) -> Option<&'static str> {
    let private: Vec<&str> = ids.private().filter(|id| !scene.operators.private().any(|own| own == *id)).collect();
    if private.iter().any(|id| answer.holds(id)) {
        return Some("it shows what belongs to another");
    }
    let request = prost::Message::encode_to_vec(&scene.sample.good(&rpc.method.input(), ids));
    let names_some = private.iter().any(|id| request.windows(id.len()).any(|window| window == id.as_bytes()));
    (names_some && !rpc.lists()).then_some("done with what belongs to another")
}

/// Callers that no rule beyond the role keeps out.
fn may_surely(rpc: &Rpc, who: Who) -> bool {
    match who {
        Who::Owner | Who::Operator => rpc.access != Access::Public,
        // What is done for an account needs one, and a key in the request can be a wrong one.
        Who::Service => rpc.access == Access::Internal && !rpc.name().starts_with("Authenticate"),
        _ => false,
    }
}

/// Megabytes are refused before anybody asks whose they are: some callers stand for all.
fn sends(who: Who, input: Input) -> bool {
    input != Input::Oversize || matches!(who, Who::Anonymous | Who::Owner | Who::Service)
}

fn port_name(service: ServiceName) -> &'static str {
    if service == ServiceName::ApiGateway { "gateway" } else { service.as_str() }
}

/// Ids that only operators handle: of an account and a key that nobody needs, and of a job.
async fn operators_ids(stage: &Stage, operator: &Rest) -> Ids {
    let mut ids = Ids::default();
    let stranger = stage.anonymous().sign_in(&stage.stranger).await.unwrap();
    let account = stranger.get("/api/v1/auth/account").await.unwrap().expect(200).unwrap().json().unwrap();
    ids.take("", &account);
    let key = operator.post("/api/v1/auth/api-keys", &json!({"name": "spare", "role": "ROLE_VIEWER"})).await.unwrap();
    ids.take("auth", &key.json().unwrap_or_default());
    let job = operator.post("/api/v1/jobs", &json!({"type": "sweep_uploads"})).await.unwrap();
    ids.take("worker", &job.json().unwrap_or_default());
    ids
}

#[tokio::test]
async fn nobody_may_more_than_the_contracts_declare_and_nothing_sent_is_a_fault_of_ours() {
    let rpcs = Rpc::all().unwrap();
    let mut scene = Scene::set().await;
    let before = (scene.owner.picture().await, scene.other.picture().await);

    // First what must change nothing: callers that may not, and calls that name what belongs to others.
    for rpc in &rpcs {
        for who in Who::ALL.into_iter().filter(|who| !who.is_admitted(rpc.access)) {
            for input in Input::ALL.into_iter().filter(|input| sends(who, *input)) {
                scene.call(rpc, who, input).await;
            }
        }
        for who in [Who::Anonymous, Who::Viewer, Who::OtherCreator].into_iter().filter(|who| who.is_admitted(rpc.access)) {
            scene.call(rpc, who, Input::Foreign).await;
        }
    }
    assert_eq!(before.0, scene.owner.picture().await, "calls of others changed what they may not");
    let after = scene.other.picture().await;
    // This one has called too, and so has made things of its own.
    let changed: Vec<&Value> = before.1.iter().filter(|thing| !after.contains(thing)).collect();
    assert!(changed.is_empty(), "calls of others changed what they may not: {changed:?}");

    // Then those who may, with what can't be meant, with their own things, and last with what takes those away.
    for (takes_away, inputs) in
        [(false, &Input::ALL[2..]), (false, &Input::ALL[..1]), (true, &Input::ALL[2..]), (true, &Input::ALL[..1])]
    {
        for rpc in rpcs.iter().filter(|rpc| rpc.takes_away() == takes_away) {
            for who in Who::ALL.into_iter().filter(|who| who.is_admitted(rpc.access)) {
                for input in inputs.iter().filter(|input| sends(who, **input)) {
                    scene.call(rpc, who, *input).await;
                }
            }
        }
    }

    let missed: Vec<&str> = rpcs.iter().map(|rpc| rpc.path).filter(|path| !scene.done.contains(path)).collect();
    println!("{} RPCs, {} calls; never done with good input:", rpcs.len(), scene.calls);
    missed.iter().for_each(|path| println!("{path}: {}", scene.refused.get(path).map_or("", String::as_str)));
    let complaints: Vec<String> = scene.complaints.into_iter().collect();
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    assert!(missed.len() * 2 < rpcs.len(), "the samples are too poor to show anything: {missed:?}");
}
