//! Kubeconfig files, as kubectl and people write them.

use std::fs;

use criu_cri::kubelet::{Endpoint, ErrorKind, Kubeconfig, Kubelet};
use criu_lab::certs::Wanted;
use criu_lab::https::Server;

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn a_context_leads_to_the_node_with_its_credentials() {
    let node = Server::start(|_| (200, r#"{"items":["/a.tar"]}"#.to_owned()));
    let me = node.authority.sign(2, &Wanted { common: "me", ..Wanted::default() });
    let data = |path| base64(&fs::read(path).unwrap());
    let file = node.dir.join("config");
    fs::write(node.dir.join("token"), "from-file\n").unwrap();
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: admin@test\npreferences: {{}}\nclusters:\n\
         - cluster:\n    certificate-authority-data: {}\n    server: https://127.0.0.1:{}\n  \
         name: test\ncontexts:\n- context:\n    cluster: test\n    user: admin\n  name: \
         admin@test\n- context: {{cluster: test, user: robot}}\n  name: robot\n- {{name: exec, \
         context: {{cluster: test, user: exec}}}}\n- {{name: lost, context: {{cluster: none}}}}\n\
         users:\n- name: admin\n  user:\n    client-certificate-data: {}\n    client-key: 2.key\n\
         - name: robot\n  user: {{token: inline, tokenFile: token}}\n- name: exec\n  user:\n    \
         exec:\n      apiVersion: client.authentication.k8s.io/v1\n      command: \
         aws-iam\n      args: [secret]\n",
        data(node.authority.file()),
        node.port,
        data(me.certificate),
    );
    fs::write(&file, text).unwrap();
    let config = Kubeconfig::read(&file).unwrap();
    let ask = |context: Option<&str>| {
        let cluster = config.cluster(context)?;
        let endpoint = Endpoint::api_server(&cluster.server, "node-1").unwrap();
        Kubelet::new(endpoint, cluster.access).checkpoint(&"ns/pod/app".parse().unwrap(), None)
    };
    ask(None).unwrap();
    let asked = node.last();
    assert!(asked.certificate.is_some() && asked.token().is_none(), "{asked:?}");
    assert_eq!(asked.path().0, "/api/v1/nodes/node-1/proxy/checkpoint/ns/pod/app");
    ask(Some("robot")).unwrap();
    assert_eq!(node.last().token(), Some("from-file"));
    assert!(!format!("{config:?}{:?}", config.cluster(Some("robot"))).contains("inline"));
    let said = |context| ask(Some(context)).unwrap_err();
    let place = format!("{}: ", file.display());
    let exec = "the user exec gets credentials from aws-iam (exec), which is not run";
    assert_eq!(said("exec").to_string(), format!("{place}{exec}"));
    let lost = "the cluster none is not in the kubeconfig";
    assert_eq!(said("lost").to_string(), format!("{place}{lost}"));
    let none = "the context x is not in the kubeconfig";
    assert_eq!(said("x").to_string(), format!("{place}{none}"));
}

#[test]
fn what_is_not_done_is_refused_by_name() {
    let node = Server::start(|_| (200, String::new()));
    let file = node.dir.join("config");
    let of = |cluster: &str, user: &str| {
        let text = format!(
            "current-context: c\ncontexts: [{{name: c, context: {{cluster: a, user: b}}}}]\n\
             clusters: [{{name: a, cluster: {{{cluster}}}}}]\n\
             users: [{{name: b, user: {{{user}}}}}]"
        );
        fs::write(&file, text).unwrap();
        Kubeconfig::read(&file).unwrap().cluster(None)
    };
    let server = "server: 'https://a'";
    for (cluster, user, wanted) in [
        ("server: 'https://a', proxy-url: 'http://b'", "", "proxy-url"),
        (server, "auth-provider: {name: gcp}", "auth-provider"),
        (server, "username: a, password: secret", "password"),
        (server, "as: root", "act as"),
        (server, "exec: {}", "a program (exec)"),
    ] {
        let said = of(cluster, user).unwrap_err();
        assert!(matches!(said.kind(), ErrorKind::Unsupported(_)), "{said}");
        let text = said.to_string();
        assert!(text.contains(wanted) && !text.contains("secret"), "{text}");
    }
    for (cluster, user, wanted) in [
        ("", "", "the cluster names no server"),
        (server, "client-key-data: '%%%'", "client-key-data is no base64"),
        (server, "client-key: k", "a key without a certificate"),
    ] {
        let said = of(cluster, user).unwrap_err().to_string();
        assert!(said.ends_with(wanted), "{said}");
    }
    let trusting = of("server: 'https://a', insecure-skip-tls-verify: true", "").unwrap();
    assert!(trusting.access.trusts_anybody());
    assert!(!trusting.kubelet_access().trusts_anybody());
    for authority in ["certificate-authority: ca.pem", "certificate-authority-data: YQ=="] {
        let both = format!("server: 'https://a', {authority}, insecure-skip-tls-verify: true");
        let said = of(&both, "").unwrap_err().to_string();
        assert!(said.contains("only one of them can be meant"), "{said}");
    }
    for text in ["kind: Pod", "a: &a b\nc: *a", "{", "\0", "kind: Config"] {
        fs::write(&file, text).unwrap();
        let said = Kubeconfig::read(&file).and_then(|config| config.cluster(None)).unwrap_err();
        assert!(matches!(said.kind(), ErrorKind::Malformed { .. }), "{text}: {said}");
    }
}
