"""Stock OAuth clients against a development server, from its dev.json alone.

    python3 tests/clients/stock.py tokenscope-dev/dev.json

Each library that is installed introspects a sample token (RFC 7662), revokes it as its app (RFC 7009), and introspects
it again: exactly {"active": false}. A library that is not installed is skipped, and that is said. Exits 0 if everything
asked was answered as expected.
"""

import json
import sys


def named(rows, name):
    return next(row for row in rows if row["name"] == name)


def with_requests_oauth2client(dev, token, api, app):
    import requests
    from requests_oauth2client import OAuth2Client

    session = requests.Session()
    session.verify = dev["ca_file"]
    session.trust_env = False

    def client(caller):
        return OAuth2Client(
            token_endpoint=dev["https_url"] + "/token",
            introspection_endpoint=dev["https_url"] + "/introspect",
            revocation_endpoint=dev["https_url"] + "/revoke",
            client_id=caller["client_id"],
            client_secret=caller["client_secret"],
            session=session,
        )

    def ask():
        return dict(client(api).introspect_token(token))

    return ask, lambda: client(app).revoke_access_token(token)


def with_authlib(dev, token, api, app):
    from authlib.integrations.requests_client import OAuth2Session

    def client(caller):
        session = OAuth2Session(caller["client_id"], caller["client_secret"], revocation_endpoint_auth_method="client_secret_basic")
        session.verify = dev["ca_file"]
        session.trust_env = False
        return session

    def ask():
        answer = client(api).introspect_token(dev["https_url"] + "/introspect", token=token)
        answer.raise_for_status()
        return answer.json()

    def revoke():
        answer = client(app).revoke_token(dev["https_url"] + "/revoke", token=token)
        answer.raise_for_status()
        return answer.status_code == 200

    return ask, revoke


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        dev = json.load(file)
    api, app = (named(dev["callers"], name) for name in ("api", "time-tracker"))
    libraries = [
        ("requests-oauth2client", with_requests_oauth2client, "maria-time"),
        ("Authlib", with_authlib, "jonas-time"),
    ]
    for name, make, sample in libraries:
        sample = named(dev["tokens"], sample)
        try:
            ask, revoke = make(dev, sample["token"], api, app)
        except ImportError as error:
            print(f"SKIPPED: {name}: {error}")
            continue
        before = ask()
        assert before["active"] is True and before["sub"] == sample["subject"], (name, before)
        assert revoke(), name
        after = ask()
        assert after == {"active": False}, (name, after)
        print(f"{name}: active, revoked, then exactly {json.dumps(after)}")


if __name__ == "__main__":
    main()
