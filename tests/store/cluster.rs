//! A cluster: three nodes of a real one, and nodes that name others as a test says.

use super::failing::{costs_three_timeouts_at_most, impatient};
use super::sharing::one_exchange_serves_two_clients;
use super::*;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

const SLOTS: u32 = 16_384;

/// Three nodes. The first has few slots, so that all of them can be moved.
struct Cluster {
    nodes: Vec<(Redis, u16)>,
}

impl Cluster {
    const FIRST_OF: [u32; 4] = [0, 2000, 9000, SLOTS];

    /// `None` as with [`Redis::start`].
    fn start(more: &[&str]) -> Option<Self> {
        // A port may be taken meanwhile: then the server ends, and the test fails.
        let free: Vec<_> = (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = free.iter().map(|l| l.local_addr().unwrap().port()).collect();
        drop(free);
        let is_tls = more.contains(&"--tls-cluster");
        let port_option = if is_tls { "--tls-port" } else { "--port" };
        let nodes = ports.chunks(2).map(|pair| {
            let [port, bus] = [pair[0].to_string(), pair[1].to_string()];
            let own = [port_option, &port, "--cluster-enabled", "yes", "--cluster-port", &bus];
            // Where a node is gone, the others go on; one without slots stays what it is.
            let calm = ["--cluster-require-full-coverage", "no"];
            let calm = [calm, ["--cluster-allow-replica-migration", "no"]].concat();
            let own = [&own[..], &calm, more].concat();
            Redis::start(&own).map(|redis| (redis, pair[0]))
        });
        let this = Self { nodes: nodes.collect::<Option<_>>()? };
        for (index, (redis, _)) in this.nodes.iter().enumerate() {
            let [first, end] = [Self::FIRST_OF[index], Self::FIRST_OF[index + 1]];
            let slots = format!("CLUSTER ADDSLOTSRANGE {first} {}", end - 1);
            run_all(redis, &[format!("CLUSTER SET-CONFIG-EPOCH {}", index + 1), slots]);
            let meet =
                format!("CLUSTER MEET 127.0.0.1 {} {}", ports[2 * index], ports[2 * index + 1]);
            run_all(&this.nodes[0].0, &[meet]);
        }
        for (redis, _) in &this.nodes {
            let is_up = |info: &str| {
                info.contains("cluster_state:ok") && info.contains("cluster_slots_assigned:16384")
            };
            wait_until("the cluster is up", || is_up(&redis.run(&[b"CLUSTER", b"INFO"])));
        }
        Some(this)
    }

    fn url(&self, node: usize) -> String {
        self.url_as("", node)
    }

    /// With user info, such as "user:password@".
    fn url_as(&self, login: &str, node: usize) -> String {
        format!("redis://{login}127.0.0.1:{}", self.nodes[node].1)
    }

    fn redis(&self, node: usize) -> &Redis {
        &self.nodes[node].0
    }

    fn id(&self, node: usize) -> String {
        let reply = self.redis(node).run(&[b"CLUSTER", b"MYID"]);
        reply.lines().nth(1).unwrap().to_owned()
    }

    fn keys(&self, node: usize) -> Vec<String> {
        let reply = self.redis(node).run(&[b"KEYS", b"*"]);
        reply.lines().filter(|line| line.starts_with("spike_auth:1:")).map(str::to_owned).collect()
    }

    /// How many replies of this kind a node gave.
    fn count(&self, node: usize, kind: &str) -> u64 {
        let stats = self.redis(node).run(&[b"INFO", b"errorstats"]);
        let line = format!("errorstat_{kind}:count=");
        stats.split_once(&line).map_or(0, |(_, rest)| rest.lines().next().unwrap().parse().unwrap())
    }

    /// Runs a command for each slot of the first node, at one node.
    fn set_slots(&self, node: usize, what: &str) {
        let slots = Self::FIRST_OF[0]..Self::FIRST_OF[1];
        let commands: Vec<_> = slots.map(|slot| format!("CLUSTER SETSLOT {slot} {what}")).collect();
        run_all(self.redis(node), &commands);
    }
}

/// Sends commands at once. Each of them is answered with OK.
fn run_all(redis: &Redis, commands: &[String]) {
    let mut stream = std::os::unix::net::UnixStream::connect(redis.socket()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let lines: String = commands.iter().map(|command| format!("{command}\r\n")).collect();
    stream.write_all(lines.as_bytes()).unwrap();
    let mut replies = BufReader::new(stream).lines();
    for command in commands {
        assert_eq!(replies.next().unwrap().unwrap(), "+OK", "{command}");
    }
}

/// A service whose tokens name their user and the number of the request.
fn service_by_user() -> Server {
    let count = AtomicU64::new(0);
    Server::start(move |incoming| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        let body = format!(r#"{{"access_token":"{}.{number}"}}"#, incoming.user());
        Outcome::Reply(reply(200, &body))
    })
}

/// One that asks the store each time, and has patience with a busy machine.
fn patient(service: &Server, store: &str) -> Client {
    let mut config = config(service, store);
    config.set_cache_capacity(0);
    config.set_store_timeout_ms(10_000).unwrap();
    config.set_timeout_ms(60_000).unwrap();
    Client::new(&config).unwrap()
}

fn token_of(client: &Client, user: &str) -> String {
    let token = client.get_token(user.as_bytes(), None).unwrap();
    let token = String::from_utf8(token.as_bytes().to_vec()).unwrap();
    assert_eq!(token.split('.').next(), Some(user));
    token
}

fn users(prefix: &str) -> Vec<String> {
    (0..100).map(|number| format!("{prefix}-{number}")).collect()
}

/// Calls `during` while two clients, as two processes would, ask for all users again and again.
fn under_load(clients: &[Client; 2], users: &[String], during: impl FnOnce()) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for client in clients {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    for user in users {
                        token_of(client, user);
                    }
                }
            });
        }
        // The threads end, whatever happens here.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(during));
        over.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

#[test]
fn slots_that_are_moved_under_load_cost_no_exchange() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let (service, users) = (service_by_user(), users("user"));
    // At each node the client needs its login.
    for (redis, _) in &cluster.nodes {
        let acl = "spike on >p@w ~spike_auth:1:* -@all +get +set +del +pttl +eval +asking";
        run_all(redis, &[format!("ACL SETUSER {acl}"), "ACL SETUSER default -eval".into()]);
    }
    let clients = [0, 1].map(|node| patient(&service, &cluster.url_as("spike:p%40w@", node)));
    for user in &users {
        assert_eq!(token_of(&clients[0], user), token_of(&clients[1], user));
    }
    assert!((0..3).all(|node| !cluster.keys(node).is_empty()), "all nodes have keys");
    (0..20).for_each(|_| clients[0].check_store(None).unwrap());

    let late = super::cluster::users("late");
    under_load(&clients, &users, || {
        let (source, target) = (cluster.id(0), cluster.id(1));
        cluster.set_slots(1, &format!("IMPORTING {source}"));
        cluster.set_slots(0, &format!("MIGRATING {target}"));
        // Leases and tokens that are not there yet go to the new node, by ASK.
        for user in &late {
            assert_eq!(token_of(&clients[0], user), token_of(&clients[1], user));
        }
        (0..20).for_each(|_| clients[0].check_store(None).unwrap());
        let port = cluster.nodes[1].1;
        for key in cluster.keys(0) {
            run_all(cluster.redis(0), &[format!("MIGRATE 127.0.0.1 {port} {key} 0 5000")]);
        }
        let asked = cluster.count(0, "ASK");
        wait_until("ASK for a moved key", || cluster.count(0, "ASK") > asked);
        let moved = cluster.count(0, "MOVED");
        for node in [1, 0, 2] {
            cluster.set_slots(node, &format!("NODE {target}"));
        }
        wait_until("MOVED for a moved slot", || cluster.count(0, "MOVED") > moved);
    });
    for user in users.iter().chain(&late) {
        assert_eq!(token_of(&clients[0], user), token_of(&clients[1], user));
    }
    assert_eq!(cluster.keys(0), [""; 0]);
    assert_eq!(service.requests(), 200, "one exchange per user");
    for client in &clients {
        let stats = stats(client);
        assert_eq!((stats.store_errors, stats.store_skipped, stats.failures), (0, 0, 0));
    }
}

#[test]
fn what_a_node_answers_is_learned() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let (service, users) = (service_by_user(), users("user"));
    let client = patient(&service, &cluster.url(0));
    let moved = || cluster.count(0, "MOVED");
    users.iter().for_each(|user| drop(token_of(&client, user)));
    let learned = moved();
    assert!(learned > 0);
    users.iter().for_each(|user| drop(token_of(&client, user)));
    assert_eq!(moved(), learned, "the nodes are asked directly");
    assert_eq!(service.requests(), 100);
}

#[test]
fn a_unix_socket_leads_to_no_other_node() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let service = service(Duration::ZERO);
    let client = impatient(&service, &cluster.redis(0).url());
    // The random key of a check may be in this node.
    let error = (0..100).find_map(|_| client.check_store(None).err()).unwrap();
    assert!(error.message().contains("Unix socket"), "{error}");
    assert_eq!(get(&client), "token-0");
}

#[test]
fn a_killed_node_fails_no_call_and_the_others_are_still_shared() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let (service, users) = (service_by_user(), users("user"));
    let clients = [0, 0].map(|node| patient(&service, &cluster.url(node)));
    let tokens =
        |client: &Client| -> Vec<_> { users.iter().map(|user| token_of(client, user)).collect() };
    let before = tokens(&clients[0]);
    assert_eq!(tokens(&clients[1]), before);
    // The configured one, for both.
    let lost = cluster.keys(0).len();
    under_load(&clients, &users, || {
        cluster.redis(0).signal("-KILL");
        let failed = || clients.iter().all(|client| stats(client).store_skipped > 0);
        wait_until("the dead node is skipped", failed);
    });
    for client in &clients {
        let after = tokens(client);
        let changed = before.iter().zip(&after).filter(|(old, new)| old != new).count();
        assert_eq!(changed, lost, "users of the dead node, and no other");
        assert_eq!(stats(client).failures, 0);
    }
    // What was not known before the node died is learned from another one.
    let late = super::cluster::users("late");
    let exchanges = |client: &Client| {
        let start = service.requests();
        late.iter().for_each(|user| drop(token_of(client, user)));
        service.requests() - start
    };
    assert_eq!(exchanges(&clients[0]), 100);
    assert!(exchanges(&clients[1]) < 50, "most are shared");
}

#[test]
fn a_node_that_is_named_by_its_host_is_reached_over_tls() {
    let (certificate, key) = common::server::certificate_for(&["localhost"]);
    let folder = std::env::temp_dir().join(format!("spike_auth-cluster-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    std::fs::write(path("cert"), &certificate).unwrap();
    std::fs::write(path("key"), &key).unwrap();
    let (cert, key) = (path("cert"), path("key"));
    let tls = ["--tls-cluster", "yes", "--tls-auth-clients", "no", "--tls-cert-file", &cert];
    let files = ["--tls-key-file", &key, "--tls-ca-cert-file", &cert];
    let name = ["--cluster-announce-hostname", "localhost"];
    let cluster = Cluster::start(&[&tls[..], &files, &name].concat());
    let _ = std::fs::remove_dir_all(&folder);
    let Some(cluster) = cluster else { return };
    let (service, users) = (service_by_user(), users("user"));
    let fetch_all = || {
        let mut config = config_for(&service.url(), Some(&certificate));
        let url = format!("rediss://localhost:{}", cluster.nodes[0].1);
        config.set_store(url.as_bytes()).unwrap();
        let client = Client::new(&config).unwrap();
        users.iter().for_each(|user| drop(token_of(&client, user)));
        client
    };
    // The certificate is for the name, and the nodes name addresses.
    let client = fetch_all();
    assert!(stats(&client).store_skipped > 0 && stats(&client).store_errors <= 6);
    let preferred: [&[u8]; 2] = [b"cluster-preferred-endpoint-type", b"hostname"];
    for (redis, _) in &cluster.nodes {
        let reply = redis.run(&[&[&b"CONFIG"[..], b"SET"][..], &preferred].concat());
        assert_eq!(reply, "+OK\r\n");
    }
    let before = service.requests();
    let clients = [fetch_all(), fetch_all()];
    assert!(service.requests() - before <= 100, "{}", service.requests() - before);
    assert!(clients.iter().all(|client| stats(client).store_errors == 0));
    (0..10).for_each(|_| clients[0].check_store(None).unwrap());
}

/// A node that answers each command with `reply` and counts the looks.
fn node(reply: impl Fn() -> String + Send + Sync + 'static) -> (Server, Arc<AtomicU64>) {
    let looks = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&looks);
    let server = scripted(move |command, _| {
        if command[0] == b"SET" {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        Some(format!("{}\r\n", reply()).into_bytes())
    });
    (server, looks)
}

fn check_says(store: &str, text: &str) {
    let service = service(Duration::ZERO);
    let error = impatient(&service, store).check_store(None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store, "{error}");
    assert!(error.message().contains(text), "{error}");
}

#[test]
fn nodes_that_name_each_other_are_followed_three_times() {
    let port = Arc::new(AtomicU64::new(0));
    let first_port = Arc::clone(&port);
    let (second, second_looks) =
        node(move || format!("-MOVED 1 127.0.0.1:{}", first_port.load(Ordering::SeqCst)));
    let second_port = second.port();
    // Without a host: the host of the one that answers.
    let (first, first_looks) = node(move || format!("-MOVED 1 :{second_port}"));
    port.store(first.port().into(), Ordering::SeqCst);
    let looks = || (first_looks.load(Ordering::SeqCst), second_looks.load(Ordering::SeqCst));
    let service = service(Duration::ZERO);
    let client = impatient(&service, &url_of(&first));
    assert_eq!((get(&client), looks()), ("token-0".into(), (2, 2)));
    check_says(&url_of(&first), "do not agree");
    costs_three_timeouts_at_most("a circle of two", &url_of(&first));
    let (alone, looks) = node(move || format!("-ASK 1 :{second_port}"));
    costs_three_timeouts_at_most("a circle with ASK", &url_of(&alone));
    assert!(looks.load(Ordering::SeqCst) < 30);
}

#[test]
fn addresses_that_are_none_are_not_followed() {
    for address in
        ["nowhere", "host:0", "redis://127.0.0.1:1", "unix:///run/a:1", "/run/a:1", "?:1"]
    {
        for kind in ["MOVED", "ASK"] {
            let (store, _) = node(move || format!("-{kind} 1 {address}"));
            costs_three_timeouts_at_most(address, &url_of(&store));
            check_says(&url_of(&store), "without a usable host and port");
        }
    }
    let Some(redis) = Redis::start(&["--cluster-enabled", "yes", "--port", "0"]) else { return };
    check_says(&redis.url(), "CLUSTERDOWN");
}

#[test]
fn a_node_that_is_named_and_cannot_be_reached_costs_three_timeouts_at_most() {
    // Bound, so that no other test gets its port, and not listening.
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    deaf.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let deaf_port = deaf.local_addr().unwrap().as_socket().unwrap().port();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    for port in [deaf_port, silent.local_addr().unwrap().port()] {
        for kind in ["MOVED", "ASK"] {
            let (store, _) = node(move || format!("-{kind} 1 127.0.0.1:{port}"));
            costs_three_timeouts_at_most(kind, &url_of(&store));
        }
    }
}

/// A store in memory, and how many connections it has.
fn counted(open: &Arc<AtomicU64>) -> Server {
    let (memory, open) = (Memory::default(), Arc::clone(open));
    Server::accepting(move |mut stream| {
        open.fetch_add(1, Ordering::SeqCst);
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(command) = common::store::read_command(&mut reader) {
            if stream.write_all(&memory.answer(&command)).is_err() {
                break;
            }
        }
        open.fetch_sub(1, Ordering::SeqCst);
    })
}

#[test]
fn connections_are_bounded_for_all_nodes_together() {
    const NODES: usize = 12;
    let open = Arc::default();
    let nodes: Vec<_> = (0..NODES).map(|_| counted(&open)).collect();
    let ports: Vec<_> = nodes.iter().map(Server::port).collect();
    let next = AtomicU64::new(0);
    let (first, _) = node(move || {
        let number = next.fetch_add(1, Ordering::SeqCst) as usize / 3; // a look is three commands
        format!("-ASK 1 127.0.0.1:{}", ports[number % NODES])
    });
    let service = service(Duration::ZERO);
    let mut config = config(&service, &url_of(&first));
    config.set_max_concurrency(3).unwrap();
    config.set_cache_capacity(0);
    let client = Client::new(&config).unwrap();
    (0..3 * NODES).for_each(|_| drop(get(&client)));
    assert!(nodes.iter().all(|node| node.connections() > 0));
    wait_until("what is not kept is closed", || open.load(Ordering::SeqCst) <= 3);
}

#[test]
fn an_operation_at_several_nodes_has_the_time_of_one() {
    const STEP: Duration = Duration::from_millis(400);
    let slow = scripted(|command, stream| {
        if command[0] == b"SET" {
            std::thread::sleep(STEP);
        }
        let port = stream.local_addr().unwrap().port();
        Some(format!("-MOVED 1 :{port}\r\n").into_bytes())
    });
    let service = service(Duration::ZERO);
    let mut config = config(&service, &url_of(&slow));
    config.set_store_timeout_ms(1000).unwrap();
    let client = Client::new(&config).unwrap();
    let start = Instant::now();
    assert_eq!(get(&client), "token-0");
    assert!(start.elapsed() < 4 * STEP, "{:?}", start.elapsed());
    assert_eq!(stats(&client).store_errors, 1);
}

/// A hostile store could have a client connect to any program. That program sees no byte that the store chose.
#[test]
fn a_program_that_is_no_redis_is_sent_no_byte_of_the_store() {
    let received = Arc::new(Mutex::new(Vec::new()));
    let copy = Arc::clone(&received);
    let victim = Server::accepting(move |mut stream| {
        let mut input = [0; 4096];
        let _ = stream.write_all(b"220 smtp ready\r\n");
        while let Ok(count @ 1..) = stream.read(&mut input) {
            copy.lock().unwrap().extend_from_slice(&input[..count]);
            let _ = stream.write_all(b"502 what?\r\n");
        }
    });
    let port = victim.port();
    let store = scripted(move |command, _| {
        Some(match &command[0][..] {
            b"GET" => b"$14\r\n\r\nMAIL FROM:<a\r\n".to_vec(),
            b"PTTL" => b":60000\r\n".to_vec(),
            b"SET" => b"$-1\r\n".to_vec(),
            _ => format!("-MOVED 1 127.0.0.1:{port}\r\n").into_bytes(),
        })
    });
    let service = service(Duration::ZERO);
    assert_eq!(get(&impatient(&service, &url_of(&store))), "token-0");
    wait_until("the program is asked", || victim.connections() > 0);
    let asked = b"*2\r\n$3\r\nGET\r\n$13\r\nspike_auth:1:\r\n";
    wait_until("the first command", || !received.lock().unwrap().is_empty());
    assert_eq!(&received.lock().unwrap()[..], asked);
}

#[test]
fn a_password_is_for_nodes_that_a_server_names_after_the_login() {
    let (other, _) = node(|| "+OK".into());
    let port = other.port();
    let (store, _) = node(move || format!("-MOVED 1 127.0.0.1:{port}"));
    let url = format!("redis://me:s3cret@{}", store.address);
    costs_three_timeouts_at_most("AUTH is not followed", &url);
    assert_eq!(other.connections(), 0);
}

/// A node that hands its slots over, and the one that takes them, which knows the keys after `ASKING` alone.
fn moving(answer_to_asking: &'static str) -> (Server, Server, Arc<AtomicU64>) {
    let memory = Memory::default();
    let asked = Mutex::new(false);
    let target = scripted(move |command, _| {
        let mut asked = asked.lock().unwrap();
        if command[0] == b"ASKING" {
            *asked = true;
            return Some(answer_to_asking.into());
        }
        // The first command on a connection proves that it is a Redis.
        let knows = std::mem::take(&mut *asked) || command[1] == b"spike_auth:1:";
        Some(if knows { memory.answer(command) } else { b"-MOVED 1 127.0.0.1:1\r\n".to_vec() })
    });
    let port = target.port();
    let (source, looks) = node(move || format!("-ASK 1 127.0.0.1:{port}"));
    (source, target, looks)
}

#[test]
fn a_slot_that_is_being_moved_is_asked_for_each_time() {
    let (source, _target, looks) = moving("+OK\r\n");
    one_exchange_serves_two_clients(&url_of(&source));
    assert_eq!(looks.load(Ordering::SeqCst), 2 + 1, "two looks and a check: ASK is not learned");
    let (source, _target, _) = moving("-NOPERM no\r\n");
    check_says(&url_of(&source), "ASKING with NOPERM");
}
