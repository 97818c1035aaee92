use super::*;

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
struct UploadConfig {
    max_bytes: u64,
    label: String,
}

impl ServiceConfig for UploadConfig {
    fn validate(&self) -> Result<(), String> {
        if self.max_bytes > 100 { Err("max_bytes must be at most 100".to_owned()) } else { Ok(()) }
    }
}

fn load(yaml: &str, env: &[(&str, &str)]) -> Result<Settings, ConfigError> {
    let source = ConfigSource::new().yaml(yaml);
    Settings::load(&env.iter().fold(source, |source, (name, value)| source.env(*name, *value)))
}

fn refusal(yaml: &str, env: &[(&str, &str)]) -> String {
    load(yaml, env).unwrap_err().to_string()
}

#[test]
fn later_layers_win_and_the_environment_wins_over_all() {
    let source = ConfigSource::new()
        .yaml("log: {level: warn}\nupload: {max_bytes: 7, label: a}")
        .yaml("upload: {label: b}")
        .env("STREAMGATE_UPLOAD__MAX_BYTES", "9")
        .env("LOG_FORMAT", "json");
    let settings = Settings::load(&source).unwrap();
    assert_eq!(settings.section::<UploadConfig>(ServiceName::Upload).unwrap(), UploadConfig { max_bytes: 9, label: "b".into() });
    assert_eq!((settings.log.level.as_str(), settings.log.format), ("warn", LogFormat::Json));
}

#[test]
fn in_one_process_only_the_gateway_listens_for_outsiders() {
    let settings = load("server: {host: 0.0.0.0}", &[]).unwrap();
    assert!(settings.host(ServiceName::ApiGateway, false).is_unspecified());
    assert!(settings.host(ServiceName::Auth, false).is_loopback());
    assert!(settings.host(ServiceName::Auth, true).is_unspecified(), "a process of its own is reached over the network");
    let opened = load("server: {inner_host: 0.0.0.0}", &[]).unwrap();
    assert!(opened.host(ServiceName::Auth, false).is_unspecified());
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    assert!(refusal("dta_dir: x", &[]).contains("dta_dir"));
    assert!(refusal("server: {prt: 1}", &[]).contains("prt"));
    assert!(refusal("", &[("STREAMGATE_DTA_DIR", "x")]).contains("STREAMGATE_DTA_DIR"));
    assert!(refusal("", &[("STREAMGATE_UPLAOD__MAX_BYTES", "1")]).contains("STREAMGATE_UPLAOD__MAX_BYTES"));
    let settings = load("upload: {max_byte: 1}", &[]).unwrap();
    let message = settings.section::<UploadConfig>(ServiceName::Upload).unwrap_err().to_string();
    assert!(message.starts_with("upload: ") && message.contains("max_byte"), "{message}");
}

#[test]
fn a_bad_value_is_refused_in_one_sentence() {
    assert!(refusal("", &[("SERVER_PORT", "ninety")]).contains("SERVER_PORT"));
    assert!(refusal("", &[("LOG_FORMAT", "xml")]).contains("xml"));
    assert!(refusal("public_url: video", &[]).contains("public_url"));
    assert!(refusal("mesh: {secret: short}", &[]).contains("mesh.secret"));
    assert!(refusal("mesh: {targets: {uplaod: 'http://x:1'}}", &[]).contains("uplaod"));
    assert!(refusal("", &[("CHAIN_one_RPC", "http://x")]).contains("CHAIN_one_RPC"));
    assert!(refusal("", &[("CHAIN_1_RPC", "ftp://x")]).contains("chains.1"));
    assert!(!refusal("a: [", &[]).contains('\n'));
    let settings = load("upload: {max_bytes: 101}", &[]).unwrap();
    let message = settings.section::<UploadConfig>(ServiceName::Upload).unwrap_err().to_string();
    assert_eq!(message, "upload: max_bytes must be at most 100");
}

#[test]
fn chains_and_operators_come_from_variables_or_files() {
    let env = [("CHAIN_31337_RPC", "http://a:1, http://b:2"), ("OPERATOR_WALLETS", "0xAB,0xCD")];
    let settings = load("chains: {1: ['https://rpc.example']}", &env).unwrap();
    assert_eq!(settings.chains[&31337], ["http://a:1", "http://b:2"]);
    assert_eq!(settings.chains[&1], ["https://rpc.example"]);
    assert_eq!(settings.operator_wallets, ["0xAB", "0xCD"]);
}

#[test]
fn redis_is_used_when_it_has_a_host_and_its_password_is_never_shown() {
    assert!(!load("", &[]).unwrap().redis.is_set());
    let env = [("REDIS_HOST", "cache.internal"), ("REDIS_PORT", "7000"), ("REDIS_PASSWORD", "a secret")];
    let redis = load("", &env).unwrap().redis;
    assert_eq!((redis.is_set(), redis.port, redis.password.as_str()), (true, 7000, "a secret"));
    assert!(!format!("{redis:?}").contains("secret"));
    assert_eq!(load("", &[("REDIS_PORT", "tcp://10.0.0.1:6379")]).unwrap().redis.port, 6379, "a link of the platform's");
    assert!(refusal("", &[("REDIS_PORT", "x")]).contains("REDIS_PORT"));
    assert!(refusal("redis: {host: 'redis://x'}", &[]).contains("redis.host"));
}

#[test]
fn a_secret_from_the_environment_is_the_text_that_was_set() {
    let of_redis = |value| load("", &[("STREAMGATE_REDIS__PASSWORD", value)]).unwrap().redis.password;
    for password in ["12345678", "0123", "true", "pass #word", "{a: b}", "'quoted'", "a: [", "~"] {
        assert_eq!(of_redis(password), password);
    }
    let token = load("", &[("STREAMGATE_MESH__SECRET", "1234567890123456")]).unwrap().mesh_secret;
    assert_eq!(token, "1234567890123456");
}

#[test]
fn no_refusal_shows_a_secret() {
    for password in ["12345678", "-1", "0x3039", "1.5e9", "true", "123456789012345678901234567890123456789012", "[12345678]"] {
        let message = refusal(&format!("redis: {{password: {password}}}"), &[]);
        assert!(message.contains("redis.password") && message.contains("quotes"), "{message}");
        assert!(!message.contains(password.trim_matches(['[', ']'])) && !message.contains("12345"), "{message}");
    }
    for broken in ["*hunter", "!!int hunter", "\"hunter", "\"a\" hunter", "hunter: a: b", "[hunter", "{hunter: a}"] {
        let message = refusal(&format!("redis:\n  password: {broken}\n"), &[]);
        assert!(!message.contains("hunter"), "{message}");
    }
    assert!(refusal("upload: {hooks: [{token: 77}]}", &[]).starts_with("upload.hooks.token must be text"));
    let quoted = load("redis: {password: '12345678'}", &[]).unwrap();
    assert_eq!(quoted.redis.password, "12345678");
}

#[test]
fn other_variables_are_numbers_lists_and_maps_or_text_as_it_came() {
    let env = [
        ("STREAMGATE_SERVER__GRACE_MS", "7"),
        ("STREAMGATE_MESH__TARGETS", "{upload: 'http://upload:1'}"),
        ("STREAMGATE_CHAINS__5", "['http://a:1']"),
        ("STREAMGATE_UPLOAD__LABEL", "top #1"),
    ];
    let settings = load("", &env).unwrap();
    assert_eq!((settings.grace(), settings.targets.len(), settings.chains[&5].len()), (Duration::from_millis(7), 1, 1));
    let label = |text| {
        let settings = load("", &[("STREAMGATE_UPLOAD__LABEL", text)]).unwrap();
        settings.section::<UploadConfig>(ServiceName::Upload).unwrap().label
    };
    assert_eq!(
        (label("top #1"), label("\"7\""), label("'7'"), label("it's")),
        ("top #1".into(), "7".into(), "7".into(), "it's".into())
    );
}

#[test]
fn variables_that_a_container_platform_sets_are_left_alone() {
    let env = [
        ("STREAMGATE_AUTH_SERVICE_HOST", "10.0.0.1"),
        ("STREAMGATE_AUTH_SERVICE_PORT_GRPC", "9007"),
        ("STREAMGATE_AUTH_PORT", "tcp://10.0.0.1:9007"),
        ("STREAMGATE_AUTH_PORT_9007_TCP", "tcp://10.0.0.1:9007"),
        ("SERVER_PORT", "tcp://10.0.0.1:80"),
        ("DB_PORT", "tcp://10.0.0.1:5432"),
    ];
    assert!(load("", &env).is_ok());
}

#[test]
fn the_port_is_the_one_services_or_the_gateways() {
    let settings = load("server: {ports: {cache: 7}}", &[("SERVER_PORT", "8000")]).unwrap();
    assert_eq!(settings.port(ServiceName::Upload, true), 8000);
    assert_eq!(settings.port(ServiceName::ApiGateway, false), 8000);
    assert_eq!(settings.port(ServiceName::Upload, false), 9091);
    assert_eq!(settings.port(ServiceName::Cache, false), 7);
    let ephemeral = load("", &[("SERVER_PORT", "0")]).unwrap();
    assert_eq!(ephemeral.port(ServiceName::Upload, false), 0);
}

#[test]
fn the_files_that_come_with_the_project_are_valid() {
    for stage in ["", "dev.", "prod.", "test."] {
        let path = format!("{}/../../config/config.{stage}yaml", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(Settings::load(&ConfigSource::new().yaml(text)).is_ok(), "{path}");
    }
}

/// A file of the configuration that is shipped.
fn shipped(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The file with its examples switched on: the comments that look like a key or an item.
fn with_examples(text: &str) -> String {
    let switched_on = text.lines().map(|line| {
        let Some((indent, rest)) = line.split_once("# ").filter(|(indent, _)| indent.trim().is_empty()) else {
            return line.to_owned();
        };
        let key = rest.trim_start().split_once(": ").map_or_else(|| rest.trim_end_matches(':'), |(key, _)| key);
        let is_example = !key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if is_example { format!("{indent}{rest}") } else { line.to_owned() }
    });
    switched_on.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_shipped_file_shows_the_defaults_and_its_examples_are_understood() {
    let file = shipped("config.yaml");
    let (shown, defaults) = (load(&file, &[]).unwrap(), load("", &[]).unwrap());
    assert_eq!(format!("{shown:?}"), format!("{defaults:?}"));
    // An empty text is no key of a bucket.
    let examples = with_examples(&file).replace("access_key: \"\"", "access_key: a").replace("secret_key: \"\"", "secret_key: s");
    let all = load(&examples, &[]).unwrap();
    assert!(all.stores.database.is_some() && all.stores.bucket.is_some() && all.chains.len() == 1, "{all:?}");
    for overlay in ["config.dev.yaml", "config.prod.yaml", "config.test.yaml"] {
        Settings::load(&ConfigSource::new().yaml(&*file).yaml(shipped(overlay))).unwrap();
    }
}
