"""The OpenAPI page: every route with all its answers, and behind the key."""

import json


def read_page(server):
    return server.client.get("/openapi.json").json()


def test_the_page_is_behind_the_key_and_there_is_no_other(server):
    assert server.client.get("/openapi.json", headers={"Authorization": ""}).status_code == 401
    assert {server.client.get(path).status_code for path in ("/docs", "/redoc")} == {404}


def test_every_route_tells_its_errors_and_whether_it_needs_the_key(server):
    page = read_page(server)
    assert page["openapi"].startswith("3.1")
    for path, operations in page["paths"].items():
        for operation in operations.values():
            assert {"200", "400", "401", "404", "413", "429", "500", "503", "507"} <= set(
                operation["responses"]
            ), path
            assert "422" not in operation["responses"]
            assert operation["security"] == ([] if path in ("/health", "/ready") else [{"key": []}])
    assert {"/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize"} <= set(page["paths"])


def test_what_streams_says_so(server):
    answers = read_page(server)["paths"]["/v1/responses"]["post"]["responses"]
    assert set(answers["200"]["content"]) == {"application/json", "text/event-stream"}


def test_every_reference_leads_somewhere(server):
    page = read_page(server)
    text = json.dumps(page)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names and names <= set(page["components"]["schemas"])


def test_unknown_fields_are_told_to_be_refused(server):
    schemas = read_page(server)["components"]["schemas"]
    for name in ("ChatBody", "CompletionBody", "ResponseBody", "TokenizeBody", "ImageBody"):
        assert schemas[name]["additionalProperties"] is False
