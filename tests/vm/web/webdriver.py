# SPDX-License-Identifier: MIT
# A browser by the W3C WebDriver protocol, of what the standard library has.
import base64, json, os, re, subprocess, time, urllib.error, urllib.request


class Failed(Exception):
    pass


class Browser:
    """Chromium, without a window. It ends with `with`."""

    def __init__(self, driver='chromedriver', log=None, args=()):
        self.log = open(log, 'ab') if log else subprocess.DEVNULL
        self.process = subprocess.Popen([driver, '--port=0', '--allowed-ips=127.0.0.1'],
                                        stdout=subprocess.PIPE, stderr=self.log, text=True)
        for line in self.process.stdout:
            found = re.search(r'on port (\d+)\.$', line.strip())
            if found:
                break
        else:
            raise Failed('chromedriver has ended')
        self.url = 'http://127.0.0.1:' + found[1]
        options = {'args': ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', '--no-first-run',
                            '--disable-background-networking', '--disable-component-update', '--disable-sync', *args]}
        self.session = ''
        try:
            made = self.ask('POST', '/session', {'capabilities': {'alwaysMatch': {
                'browserName': 'chrome', 'acceptInsecureCerts': True, 'goog:loggingPrefs': {'browser': 'ALL'},
                'goog:chromeOptions': options}}})
        except Failed:
            self.process.terminate()
            raise
        self.session = '/session/' + made['sessionId']

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self.ask('DELETE', '')
        finally:
            self.process.terminate()
            self.process.wait()

    def ask(self, method, path, body=None):
        data = json.dumps(body if body is not None else {}).encode() if method == 'POST' else None
        request = urllib.request.Request(self.url + self.session + path, data, {'Content-Type': 'application/json'}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)['value']
        except urllib.error.HTTPError as e:
            value = json.load(e)['value']
            raise Failed('%s: %s' % (value['error'], value['message'].split('\n')[0])) from None

    def go(self, url):
        self.ask('POST', '/url', {'url': url})

    def size(self, width, height):
        self.ask('POST', '/window/rect', {'width': width, 'height': height})

    def js(self, script, *args):
        return self.ask('POST', '/execute/sync', {'script': script, 'args': list(args)})

    def css(self, selector):
        return self.ask('POST', '/element', {'using': 'css selector', 'value': selector})

    def xpath(self, path):
        return self.ask('POST', '/element', {'using': 'xpath', 'value': path})

    def frame(self, element=None):
        self.ask('POST', '/frame', {'id': element})

    def click(self, element):
        self.ask('POST', '/element/%s/click' % list(element.values())[0])

    def type(self, element, text):
        self.ask('POST', '/element/%s/value' % list(element.values())[0], {'text': text})

    def clear(self, element):
        self.ask('POST', '/element/%s/clear' % list(element.values())[0])

    def key(self, *keys):
        actions = [a for k in keys for a in ({'type': 'keyDown', 'value': k}, {'type': 'keyUp', 'value': k})]
        self.ask('POST', '/actions', {'actions': [{'type': 'key', 'id': 'keys', 'actions': actions}]})

    def shot(self, path):
        with open(path, 'wb') as f:
            f.write(base64.b64decode(self.ask('GET', '/screenshot')))

    def console(self):
        return self.ask('POST', '/se/log', {'type': 'browser'})

    def wait(self, seconds, what):
        """Waits until what() is true, and returns it; what it raises counts as no."""
        end = time.monotonic() + seconds
        last = None
        while time.monotonic() < end:
            try:
                value = what()
                if value:
                    return value
            except Failed as e:
                last = e
            time.sleep(0.25)
        raise Failed('not within %d s%s' % (seconds, ': %s' % last if last else ''))
