use super::*;

/// Forms under which people have reached what they should not. Each must be refused as it stands.
const HOSTILE: &[&str] = &[
    // Loopback, in every notation that parsers read.
    "https://127.0.0.1/",
    "https://127.0.0.2/",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.255.255.254/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.0.0.1/",
    "https://0x7f.1/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://0177.1/",
    "https://0x7F.0x0.0x0.0x1/",
    "https://127.0.0.1./",
    "https://%31%32%37.0.0.1/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://１２７.0.0.1/",
    "https://0x7f.0x000001/",
    "https://00000177.0.0.1/",
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://a.localhost/",
    "https://localhost:8443/",
    // The unspecified network, which means this machine to many systems.
    "https://0/",
    "https://0.0.0.0/",
    "https://0.1.2.3/",
    "https://0x0/",
    "https://00/",
    "https://000.000.000.000/",
    // Private networks, carrier networks, link-local.
    "https://10.0.0.1/",
    "https://10.255.255.255/",
    "https://167772161/",
    "https://0xa000001/",
    "https://012.0.0.1/",
    "https://10.1/",
    "https://172.16.0.1/",
    "https://172.31.255.255/",
    "https://0xac100001/",
    "https://2886729729/",
    "https://192.168.0.1/",
    "https://192.168.255.255/",
    "https://3232235521/",
    "https://0xc0a80001/",
    "https://192.168.257/",
    "https://100.64.0.1/",
    "https://100.127.255.254/",
    "https://100.100.100.200/latest/meta-data/",
    "https://169.254.0.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://0xa9fea9fe/",
    "https://0251.0376.0251.0376/",
    "https://169.254.43518/",
    "https://0xa9.0xfe.0xa9.0xfe/",
    "https://169.16689662/",
    // Special-purpose and documentation blocks, multicast, reserved, broadcast, a cloud's host.
    "https://192.0.0.1/",
    "https://192.0.0.192/",
    "https://192.0.2.1/",
    "https://198.18.0.1/",
    "https://198.19.255.255/",
    "https://198.51.100.7/",
    "https://203.0.113.7/",
    "https://192.88.99.1/",
    "https://224.0.0.1/",
    "https://239.255.255.250/",
    "https://240.0.0.1/",
    "https://255.255.255.255/",
    "https://4294967295/",
    "https://168.63.129.16/",
    "https://192.31.196.1/",
    "https://192.52.193.1/",
    "https://192.175.48.1/",
    // IPv6: loopback, unspecified, mapped, compatible, translated, tunnelled, private, link-local, multicast.
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[0000::0001]/",
    "https://[::]/",
    "https://[::127.0.0.1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::FFFF:10.0.0.1]/",
    "https://[::ffff:169.254.169.254]/",
    "https://[0:0:0:0:0:ffff:c0a8:1]/",
    "https://[::ffff:0:127.0.0.1]/",
    "https://[64:ff9b::127.0.0.1]/",
    "https://[64:ff9b::a9fe:a9fe]/",
    "https://[64:ff9b::10.0.0.1]/",
    "https://[64:ff9b:1::1]/",
    "https://[2002:7f00:1::]/",
    "https://[2002:a9fe:a9fe::]/",
    "https://[2002:c0a8:101::1]/",
    "https://[2001:0:53aa:64c::1]/",
    "https://[2001:10::1]/",
    "https://[2001:20::1]/",
    "https://[2001:2::1]/",
    "https://[2001:db8::1]/",
    "https://[3fff::1]/",
    "https://[fc00::1]/",
    "https://[fd00:ec2::254]/",
    "https://[fd12:3456:789a::1]/",
    "https://[fe80::1]/",
    "https://[fe80::a9fe:a9fe]/",
    "https://[febf::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[ff0e::1]/",
    "https://[100::1]/",
    "https://[5f00::1]/",
    "https://[2620:4f:8000::1]/",
    "https://[4000::1]/",
    "https://[fe80::1%25eth0]/",
    // Names of local networks.
    "https://metadata/",
    "https://metadata.google.internal/",
    "https://kubernetes.default.svc/",
    "https://auth/",
    "https://auth.streamgate.svc.cluster.local/",
    "https://printer.local/",
    "https://router.lan/",
    "https://nas.home.arpa/",
    "https://wiki.intranet/",
    "https://METADATA.GOOGLE.INTERNAL./",
    // Other schemes, credentials, ports of the system, tricks with the text.
    "http://example.org/",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_FLUSHALL",
    "dict://127.0.0.1:11211/",
    "data:text/plain,x",
    "javascript:alert(1)",
    "unix:/run/docker.sock",
    "//example.org/",
    "example.org",
    "",
    "https://",
    "https:///x",
    "https://user@example.org/",
    "https://user:pass@example.org/",
    "https://example.org@127.0.0.1/",
    "https://127.0.0.1@example.org/",
    "https://example.org:22/",
    "https://example.org:25/",
    "https://example.org:80/",
    "https://example.org:0/",
    "https://example.org:99999/",
    "https://exa mple.org/",
    "https://example.org/\r\nX-Evil: 1",
    "https://example.org\\@127.0.0.1/",
    "https:\\\\127.0.0.1\\",
    "\thttps://example.org/",
    "https://[::1",
    "https://[v1.fe80::1]/",
    "https://1.2.3.4.5/",
    "https://256.256.256.256/",
    "https://exa%00mple.org/",
    "https://127.0.0.1%2f@example.org/",
];

#[test]
fn every_hostile_form_is_refused() {
    assert!(HOSTILE.len() >= 100, "{}", HOSTILE.len());
    for text in HOSTILE {
        assert!(Guard::Public.check_url(text).is_err(), "{text}");
    }
}

#[test]
fn public_places_are_taken() {
    for text in [
        "https://example.org/hook?x=1",
        "https://EXAMPLE.org.:8443/",
        "https://1.1.1.1/",
        "https://[2606:4700:4700::1111]/",
        "https://100.63.255.255/",
        "https://100.128.0.1/",
        "https://172.15.0.1/",
        "https://172.32.0.1/",
        "https://169.253.0.1/",
        "https://[64:ff9b::1.1.1.1]/",
        "https://[::ffff:1.1.1.1]/",
        "https://hooks.localhost.example.org/",
        "https://münchen.example/",
    ] {
        let plain = text.is_ascii();
        assert_eq!(Guard::Public.check_url(text).is_ok(), plain, "{text}");
    }
    assert_eq!(Guard::Public.check_url("https://example.org/a#secret").unwrap().as_str(), "https://example.org/a");
}

#[test]
fn in_development_a_receiver_may_be_on_this_machine() {
    assert!(Guard::Open.check_url("http://127.0.0.1:9/hook").is_ok());
    assert!(Guard::Open.check_url("http://user@127.0.0.1:9/").is_err());
    assert!(Guard::Open.check_url("ftp://127.0.0.1/").is_err());
}

/// A name that leads elsewhere each time, as a rebinding server answers.
struct Rebinding(std::sync::Mutex<std::vec::IntoIter<Vec<IpAddr>>>);

#[async_trait]
impl Names for Rebinding {
    async fn addresses(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        Ok(self.0.lock().unwrap().next().unwrap_or_default())
    }
}

#[tokio::test]
async fn a_name_is_looked_at_each_time_and_one_private_address_spoils_it() {
    let ip = |text: &str| text.parse::<IpAddr>().unwrap();
    let answers = vec![
        vec![ip("1.1.1.1"), ip("2606:4700::1")],
        vec![ip("127.0.0.1")],
        vec![ip("1.1.1.1"), ip("169.254.169.254")],
        vec![ip("::ffff:10.0.0.1")],
        vec![],
    ];
    let names = GuardedNames::new(Guard::Public, Arc::new(Rebinding(std::sync::Mutex::new(answers.into_iter()))));
    assert_eq!(names.addresses("a.example").await.unwrap().len(), 2);
    for _ in 0..3 {
        let refused = names.addresses("a.example").await.unwrap_err();
        assert_eq!(refused.downcast_ref::<Refused>(), Some(&Refused::Address));
    }
    assert!(names.addresses("a.example").await.is_err(), "no address at all");
}
