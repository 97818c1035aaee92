//! Two replicas of playback, each behind an edge of its own and following a cache service of its own, over a real Redis:
//! what changes for one changes for the other, and nobody believes what nobody could take back.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use streamgate_integration::{
    rest::{Reply, Rest},
    watching::counted,
};
use streamgate_testkit::{
    Platform, Shape, Wallet,
    engines::{Engine as _, Postgres, Redis},
    eventually,
};
use tokio::task::JoinSet;

const BOUND: Duration = Duration::from_secs(60);
/// A change that is told takes no longer: far less than an answer is believed for.
const MOMENTS: Duration = Duration::from_secs(5);
/// For so long an answer is believed when nothing is told, in seconds; the longest that can be configured.
const BELIEVED_SECONDS: &str = "30";
/// A busy machine may hold a round up, or break the line to the cache for a while, but not in each.
const ROUNDS: usize = 5;
/// Questions that come at once to each replica.
const AT_ONCE: usize = 50;

/// A wallet, signed in.
struct Viewer {
    gate: Value,
    bearer: String,
}

impl Viewer {
    async fn enter(edge: &Rest, number: usize) -> Self {
        let wallet = Wallet::dev(number).unwrap();
        let gate = json!({"wallets": {"accounts": [format!("eip155:31337:{}", wallet.checksummed())]}});
        Self { gate, bearer: edge.sign_in(&wallet).await.unwrap().bearer().unwrap().to_owned() }
    }
}

/// One replica: its edge, and where it counts.
struct Side {
    edge: Rest,
    streaming: u16,
}

impl Side {
    fn of(edge: u16, streaming: u16) -> Self {
        Self { edge: Rest::new(&format!("http://127.0.0.1:{edge}")).unwrap(), streaming }
    }

    async fn loads(&self) -> u64 {
        counted(self.streaming, "streamgate_streaming_titles_loads_total", "").await.unwrap()
    }

    async fn session(&self, viewer: &Viewer, title: &Title) -> Reply {
        self.edge.with_bearer(viewer.bearer.as_str()).try_session(&title.playback_id).await.unwrap()
    }

    /// How often metadata is asked when somebody wants to play twice, one after the other.
    async fn loads_of_two(&self, viewer: &Viewer, title: &Title) -> u64 {
        let before = self.loads().await;
        for _ in 0..2 {
            self.session(viewer, title).await;
        }
        self.loads().await - before
    }

    /// Asks many times at once; each answer must be a refusal.
    async fn crowd(&self, viewer: &Viewer, title: &Title) {
        let mut crowd = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (rest, playback_id) = (self.edge.with_bearer(viewer.bearer.as_str()), title.playback_id.clone());
            crowd.spawn(async move { rest.try_session(&playback_id).await });
        }
        while let Some(answer) = crowd.join_next().await {
            refused(&answer.unwrap().unwrap(), 403, "gate_not_met");
        }
    }
}

struct Title {
    path: String,
    playback_id: String,
}

struct Scene {
    // Before the engines: services end before what they stand on.
    platform: Platform,
    redis: Redis,
    _postgres: Postgres,
    creator: Rest,
    sides: [Side; 2],
    one: Viewer,
    other: Viewer,
    /// On no list.
    nobody: Viewer,
}

impl Scene {
    async fn set() -> Self {
        let (postgres, redis) = tokio::try_join!(Postgres::start(), Redis::start()).unwrap();
        // Events go to the first replica alone: what the second one knows, it knows from its cache service.
        let mut builder = Platform::builder().shape(Shape::NineProcesses);
        for (name, value) in postgres.env().into_iter().chain(redis.env()) {
            builder = builder.env(name, value);
        }
        for what in ["IDENTITY", "ADDRESS"] {
            builder = builder.env(format!("STREAMGATE_API_GATEWAY__RATES__{what}_PER_SECOND"), "0");
        }
        let mut platform = builder.env("STREAMGATE_STREAMING__RECHECK_SECONDS", BELIEVED_SECONDS).start().await.unwrap();
        let address = |port: u16| format!("http://127.0.0.1:{port}");
        let cache = address(platform.start_replica("cache", &[]).unwrap());
        let streaming = platform.start_replica("streaming", &[("STREAMGATE_MESH__TARGETS__CACHE", &cache)]).unwrap();
        let behind = address(streaming);
        let edge = platform.start_replica("gateway", &[("STREAMGATE_MESH__TARGETS__STREAMING", &behind)]).unwrap();
        platform.ready().await.unwrap();
        let ports = platform.ports();
        let sides = [Side::of(ports.of("gateway"), ports.of("streaming")), Side::of(edge, streaming)];
        let first = &sides[0].edge;
        Self {
            creator: first.with_bearer(platform.api_key("creator").unwrap()),
            one: Viewer::enter(first, 1).await,
            other: Viewer::enter(first, 2).await,
            nobody: Viewer::enter(first, 3).await,
            sides,
            platform,
            redis,
            _postgres: postgres,
        }
    }

    async fn title(&self, viewer: &Viewer) -> Title {
        let made = self.creator.post("/api/v1/contents", &json!({"title": "a title"})).await.unwrap();
        let made = made.expect(200).unwrap().json().unwrap();
        let title = Title {
            path: format!("/api/v1/contents/{}", made["content_id"].as_str().unwrap()),
            playback_id: made["playback_ids"][0].as_str().unwrap().to_owned(),
        };
        self.let_in(viewer, &title).await;
        title
    }

    /// Changes the gate of a title to this viewer alone.
    async fn let_in(&self, viewer: &Viewer, title: &Title) {
        let answer = self.creator.call(Method::PUT, &format!("{}/gate", title.path), &viewer.gate).await.unwrap();
        answer.expect(200).unwrap();
    }

    /// Waits until each replica answers for a title without asking for it.
    async fn known(&self, title: &Title) {
        for side in &self.sides {
            eventually("the title is kept near", BOUND, || async {
                Ok((side.loads_of_two(&self.nobody, title).await == 0).then_some(()))
            })
            .await
            .unwrap();
        }
    }

    /// Waits until both cache services know that they miss what happens, for so many times now.
    async fn cut_off(&self, times: usize) {
        eventually("both cache services miss Redis", BOUND, || async {
            let lines = self.platform.output();
            Ok((lines.matches("lost the connection to redis").count() >= self.sides.len() * times).then_some(()))
        })
        .await
        .unwrap();
    }

    /// Waits until each replica asks for a title whenever it is needed.
    async fn doubted(&self, title: &Title) {
        for side in &self.sides {
            eventually("nothing near is believed", BOUND, || async {
                Ok((side.loads_of_two(&self.nobody, title).await == 2).then_some(()))
            })
            .await
            .unwrap();
        }
    }

    /// Whether every replica lets this viewer in now and not that one.
    async fn lets_in(&self, within: &Viewer, without: &Viewer, title: &Title) -> bool {
        for side in &self.sides {
            if side.session(within, title).await.status != 200 || side.session(without, title).await.status != 403 {
                return false;
            }
        }
        true
    }
}

fn refused(reply: &Reply, status: u16, reason: &str) {
    assert_eq!((reply.status, reply.reason().as_str()), (status, reason), "{}: {}", reply.asked, reply.text());
}

#[tokio::test]
async fn what_changes_for_one_replica_changes_for_the_other_and_nothing_near_is_believed_without_redis() {
    let mut scene = Scene::set().await;
    each_asks_once_however_many_come_at_once(&scene).await;
    a_gate_that_changes_is_another_at_both(&scene).await;
    who_is_shut_out_stops_at_both(&scene).await;
    for (outages, is_frozen) in [(1, false), (2, true)] {
        let (asked_for, forgotten) = (scene.title(&scene.one).await, scene.title(&scene.one).await);
        scene.known(&forgotten).await;
        scene.known(&asked_for).await;
        if is_frozen {
            scene.redis.pause()
        } else {
            scene.redis.kill()
        }
        scene.let_in(&scene.other, &forgotten).await;
        scene.cut_off(outages).await;
        without_redis_every_answer_is_right(&scene, &asked_for).await;
        if is_frozen {
            scene.redis.resume()
        } else {
            scene.redis.restart().await.unwrap()
        }
        // Both believe again, and know what they could not be told meanwhile.
        scene.known(&asked_for).await;
        assert!(scene.lets_in(&scene.other, &scene.one, &forgotten).await, "an answer of before came back");
    }
    a_gate_that_changes_is_another_at_both(&scene).await;
}

async fn each_asks_once_however_many_come_at_once(scene: &Scene) {
    let origin = scene.platform.ports().of("metadata");
    let answered = async || counted(origin, "streamgate_rpc_handled_total", "ResolvePlayback").await.unwrap();
    let loads = async || [scene.sides[0].loads().await, scene.sides[1].loads().await];
    // The line to the cache is there.
    scene.known(&scene.title(&scene.one).await).await;
    let mut rounds = Vec::new();
    while !rounds.contains(&([1, 1], 2)) {
        assert!(rounds.len() < ROUNDS, "{AT_ONCE} at each replica made it ask so often: {rounds:?}");
        let title = scene.title(&scene.one).await;
        let (before, answered_before) = (loads().await, answered().await);
        tokio::join!(scene.sides[0].crowd(&scene.nobody, &title), scene.sides[1].crowd(&scene.nobody, &title));
        let after = loads().await;
        rounds.push(([after[0] - before[0], after[1] - before[1]], answered().await - answered_before));
    }
}

async fn a_gate_that_changes_is_another_at_both(scene: &Scene) {
    let mut took = Vec::new();
    while took.last().is_none_or(|last| *last > MOMENTS) {
        assert!(took.len() < ROUNDS, "a new gate was seen after {took:?}");
        let title = scene.title(&scene.one).await;
        scene.known(&title).await;
        scene.let_in(&scene.other, &title).await;
        let changed = Instant::now();
        eventually("both let the other in, and no longer the one", BOUND, || async {
            Ok(scene.lets_in(&scene.other, &scene.one, &title).await.then_some(()))
        })
        .await
        .unwrap();
        took.push(changed.elapsed());
    }
}

async fn who_is_shut_out_stops_at_both(scene: &Scene) {
    let title = scene.title(&scene.one).await;
    let mut sessions = Vec::new();
    for side in &scene.sides {
        let opened = side.session(&scene.one, &title).await.expect(200).unwrap().json().unwrap();
        sessions.push(format!("/api/v1/sessions/{}", opened["session_id"].as_str().unwrap()));
    }
    scene.let_in(&scene.other, &title).await;
    for side in &scene.sides {
        let viewer = side.edge.with_bearer(scene.one.bearer.as_str());
        for path in &sessions {
            eventually("the session is revoked", BOUND, || async {
                let session = viewer.get(path).await?.expect(200)?.json()?["session"].clone();
                Ok((session["state"] == "SESSION_STATE_REVOKED").then_some(()))
            })
            .await
            .unwrap();
        }
        refused(&side.session(&scene.one, &title).await, 403, "gate_not_met");
    }

    scene.creator.call(Method::DELETE, &title.path, &json!({})).await.unwrap().success().unwrap();
    for side in &scene.sides {
        eventually("the title is gone", BOUND, || async {
            Ok((side.session(&scene.other, &title).await.status == 404).then_some(()))
        })
        .await
        .unwrap();
    }
}

/// While Redis is away: a change is right at once at both, or the answer is "not now".
async fn without_redis_every_answer_is_right(scene: &Scene, title: &Title) {
    scene.doubted(title).await;
    for (within, without) in [(&scene.other, &scene.one), (&scene.one, &scene.other)] {
        scene.let_in(within, title).await;
        for side in &scene.sides {
            for (viewer, right) in [(within, 200), (without, 403)] {
                let reply = side.session(viewer, title).await;
                assert!([right, 503].contains(&reply.status), "not {right} but {}: {}", reply.status, reply.text());
            }
        }
    }
}
