"""The page that both browsers are shown: three slots whose answers wait for the test."""

from collections.abc import Collection

from tests.e2e.browsers import LEFT_OVER, View, complaints, seen, shown
from tests.e2e.gateway import Process, Serve, Site
from tests.fakes import FakeContext

PAINTED = """new Promise(resolve => {
    new PerformanceObserver(list => resolve(list.getEntries().map(entry => entry.identifier))).observe({type: 'element', buffered: true});
    setTimeout(() => resolve([]), 1000);
})"""
"""The elements that Chromium says it has painted (Element Timing)."""


class Shop:
    """A page of three slots whose answers wait for the test, and the gateway that serves it."""

    def __init__(self, gateway: Process, context: FakeContext) -> None:
        self.gateway = gateway
        self.context = context

    @classmethod
    async def open(cls, site: Site, context: FakeContext, serve: Serve) -> "Shop":
        for name in "abc":
            context.route(f"/{name}", f"<h2>heading {name}</h2><p elementtiming={name}>here is {name}</p>", gated=True)
        site.page(
            "".join(
                f'<bff-fragment name="shop/{name}" reserve="140px"><p>waiting for {name}</p></bff-fragment><hr>'
                for name in "abc"
            ),
            {name: {"path": f"/{name}", "policy": {"cache": {"mode": "off"}}} for name in "abc"},
            upstream=context.origin,
            policy={"timeout": {"first_byte": "9s", "total": "9s"}},
            page={"deadline": "9s"},
        )
        return cls(await serve(), context)

    async def watch(self, view: View, origin: str = "", *, timed: bool = False, blocked: Collection[str] = ()) -> None:
        """See each fragment while the others wait, out of order, and nothing left over or complained of at the end.

        `timed`: the browser itself says that it has painted an element; `blocked`: directives that may be violated.
        """
        await view.goto(f"{origin or self.gateway.origin}/page")
        await shown(view, "the end")
        for name in "abc":
            assert f"waiting for {name}" in await view.evaluate("document.body.innerText")
        await seen(view, "performance.getEntriesByName('first-contentful-paint').length")
        for name in "cab":
            before = await view.screenshot()
            self.context.routes[f"/{name}"].open()
            await shown(view, f"here is {name}")
            assert await view.screenshot() != before
            if timed:
                await seen(view, f"({PAINTED}).then(painted => painted.includes({name!r}))")
            assert f"waiting for {name}" not in await view.evaluate("document.body.innerText")
        await seen(view, "document.readyState == 'complete'")
        assert await view.evaluate("[...document.querySelectorAll('h2')].map(heading => heading.textContent)") == [
            "heading a",
            "heading b",
            "heading c",
        ]
        states = "[...document.querySelectorAll('main > bff-fragment')].map(wrapper => wrapper.getAttribute('state'))"
        assert await view.evaluate(states) == ["fresh"] * 3
        assert await view.evaluate(LEFT_OVER) == []
        assert [said for said in await complaints(view) if said.split()[0] not in blocked] == []
