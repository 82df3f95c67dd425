# SPDX-License-Identifier: MIT
# The Cockpit page as people use it: cockpit.py WEB-PORT AGENT-PORT SHOTS. Prints TAP. tests/vm/browse runs it.
import json, os, re, socket, sys, time, traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from webdriver import Browser, Failed

web, agent_port, shots = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
base = 'https://127.0.0.1:%d' % web
n = failed = 0


def ok(good, name, *why):
    global n, failed
    n += 1
    if not good:
        failed += 1
    print('%sok %d - %s' % ('' if good else 'not ', n, name), flush=True)
    if not good:
        for text in why:
            for line in str(text).split('\n'):
                print('#   ' + line, flush=True)
    return good


class Agent:
    """Runs commands as root inside the emulated host."""

    def __init__(self):
        self.socket = socket.create_connection(('127.0.0.1', agent_port))
        self.stream = self.socket.makefile('rw')

    def ask(self, **what):
        self.stream.write(json.dumps(what) + '\n')
        self.stream.flush()
        return self.stream.readline()

    def run(self, command, seconds=60):
        answer = json.loads(self.ask(command=command, seconds=seconds))
        return answer['status'], answer['output'].strip()

    def until(self, command, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.run(command)[0] == 0:
                return True
            time.sleep(0.5)
        return False


class Page:
    """The page in Cockpit's shell, as USER, who has logged in by PAM."""

    def __init__(self, browser, user, admin=False):
        self.b = browser
        browser.go(base + '/')
        shown = "const e = document.querySelector('#login-user-input'); return Boolean(e && e.offsetParent)"
        browser.wait(60, lambda: browser.js(shown))
        if admin:
            browser.js('localStorage.setItem("superuser:" + arguments[0], "any")', user)
        browser.type(browser.css('#login-user-input'), user)
        browser.type(browser.css('#login-password-input'), user)
        browser.click(browser.css('#login-button'))
        browser.wait(90, lambda: browser.css('#host-apps, nav'))
        browser.go(base + '/gpubroker')
        self.enter()

    def enter(self):
        self.b.frame(None)
        self.b.frame(self.b.wait(90, lambda: self.b.css('iframe[name="cockpit1:localhost/gpubroker"]')))
        self.wait(lambda: self.b.js('return document.body && document.body.dataset.ready'), 90)

    def wait(self, what, seconds=60):
        return self.b.wait(seconds, what)

    def text(self, selector='body'):
        return self.b.js('const e = document.querySelector(arguments[0]); return e ? e.innerText : ""', selector)

    def sees(self, words, seconds=60, selector='body'):
        try:
            return self.wait(lambda: words in self.text(selector), seconds)
        except Failed:
            return False

    def click(self, name):
        """Clicks the button with this accessible name, or this text."""
        path = "//button[@aria-label='%s' or (not(@aria-label) and normalize-space(.)='%s')]" % (name, name)
        # What an event draws anew in between is another element.
        self.wait(lambda: self.b.click(self.b.xpath(path)) or True)

    def has(self, name):
        return self.b.js("return [...document.querySelectorAll('button')].some(b => (b.ariaLabel || b.innerText) === arguments[0])", name)

    def tab(self, name):
        self.click(name)

    def fill(self, label, text):
        """Writes TEXT into the field with this label."""
        self.b.js("""const l = [...document.querySelectorAll('label')].find(l => l.textContent === arguments[0]);
            const e = document.getElementById(l.htmlFor); e.value = arguments[1];
            e.dispatchEvent(new Event('input')); e.dispatchEvent(new Event('change'));""", label, text)

    def refuses(self, words):
        """The open form shows this, and has not gone on."""
        return self.b.js("""const e = document.querySelector('dialog .error');
            return Boolean(e) && !e.hidden && e.textContent.includes(arguments[0]) && !document.querySelector('dialog .progress')""", words)

    def spawn(self, *argv):
        """What a script of the page would get: the output, or the error's."""
        self.b.js("""window.said = null; window.cockpit.spawn(arguments[0], { err: 'message' })
            .then(out => { window.said = 'did ' + out; }, ex => { window.said = 'failed ' + ex.exit_status + ' ' + ex.message; })""", list(argv))
        return self.wait(lambda: self.b.js('return window.said'))

    def shot(self, name):
        """Looks at what is shown in each width and theme: a screenshot for people, and that nothing is cut off."""
        cut = []
        for theme in 'dark', 'light':
            self.b.js("""localStorage.setItem("shell:style", arguments[0]);
                window.dispatchEvent(new CustomEvent("cockpit-style", { detail: { style: arguments[0] } }))""", theme)
            for width in 360, 800, 1600:
                self.b.size(width, 1000)
                self.wait(lambda: self.b.js('return window.top.innerWidth') == width)
                self.b.shot(os.path.join(shots, '%s-%s-%d.png' % (name, theme, width)))
                if not self.b.js('return document.documentElement.scrollWidth <= window.innerWidth'):
                    cut.append('%s, %d pixels' % (theme, width))
        self.b.size(1280, 1000)
        ok(not cut, '%s: light and dark, at 360, 800 and 1,600 pixels, nothing is cut off to the right' % name, *cut)

    def focused(self):
        return self.b.js("const e = document.activeElement; return e.ariaLabel || (e.labels && e.labels[0] || e).innerText")

    def tab_to(self, name):
        """By the keyboard alone to what has this name."""
        for _ in range(60):
            if self.focused() == name:
                return True
            self.b.key('\ue004')
        return False


gpu, gpu2, prepared = '1234:1111 (0000:01:00.0)', '1234:1111 (0000:02:00.0)', '1234:1111 (0000:08:00.0)'
vm = ('qemu-system-x86_64 -M q35 -accel tcg -m 64 -nodefaults -display none -kernel /home/alice/nested.elf -append stay '
      '-serial file:/home/alice/serial')


def alice_claims(agent, b):
    alice = Page(b, 'alice')
    ok(alice.sees('You may claim it.'), 'alice, who logged in by PAM, sees what she may claim', alice.text())
    ok(alice.sees('GPUs:'), '... and how many GPUs there are')
    alice.shot('devices')
    nameless = b.js("""return [...document.querySelectorAll('button, input, select, textarea, svg[role=img], meter, progress')].filter(e =>
        !(e.ariaLabel || e.innerText || (e.labels && e.labels.length) || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)""")
    ok(not nameless, 'everything to press has a name for a screen reader', nameless)
    b.js("document.getElementById('tab-devices').focus()")
    b.key('\ue014')
    ok(alice.sees('Queue'), 'by the keyboard: an arrow goes to the next tab')
    alice.tab('Devices')
    b.js("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    alice.shot('functions')

    agent.run('cp nested.elf /home/alice/')
    opener = 'Start a VM with ' + gpu
    ok(alice.tab_to(opener), '... and the tabulator to a GPU', alice.focused())
    b.key('\ue007')
    ok(alice.wait(lambda: alice.focused() == 'Name'), '... whose button opens the form, at its first field', alice.focused())
    b.key('\ue00c')
    ok(alice.wait(lambda: alice.focused() == opener), '... which Escape closes, back to where one was', alice.focused())
    b.key('\ue007')
    alice.wait(lambda: alice.focused() == 'Name')
    alice.fill('Name', 'first')
    alice.fill('Command of the VM', vm)
    alice.shot('claim')
    b.js("document.querySelector('dialog input').focus()")
    b.key('\ue007')
    ok(alice.sees('The VM runs with its GPU.', 120, 'dialog'), 'a claim is made, and its steps are shown to the end', alice.text('dialog'))
    steps = b.js("return [...document.querySelectorAll('.steps li')].map(e => e.innerText)")
    ok(len(steps) >= 2, '... step by step', steps)
    bar = b.js("const p = document.querySelector('dialog progress'); return [p.value, p.max]")
    ok(bar[0] == bar[1], '... and the bar is full', bar)
    alice.shot('progress')
    ok(agent.until("gpubroker leases --json | grep -q '\"uid\":1000'"), 'the lease is hers: no daemon acts for her')
    ok(agent.until('grep -q END /home/alice/serial'), 'her VM runs')
    seen = agent.run('grep PCI /home/alice/serial')[1]
    ok(re.search('^PCI [1-9a-f0-9]{2}:00.0 1234:1111 class 03[0-9a-f]{4} register b0c', seen, re.M) and '8086:2668' in seen,
       '... and has found the GPU and its audio function, and read a register of the GPU', seen)
    alice.click('Close')
    ok(alice.sees('You have it since'), 'the card says that she has it', alice.text())
    alice.tab('Your VMs')
    ok(alice.sees('first') and alice.sees('running'), 'her VM is in her list')
    alice.shot('machines')
    alice.tab('Leases and queue')
    ok(alice.sees('alice (you)'), 'the lease is shown as hers')
    alice.shot('leases')


def alice_asks_oddly(agent, b):
    alice = Page(b, 'alice')
    alice.click('Start a VM with ' + gpu2)
    for name in 'my vm', '<b>x</b>', '../x', '%n', '':
        alice.fill('Name', name)
        alice.click('Start')
        ok(alice.wait(lambda: alice.refuses('A name has 1 to 40 letters')), 'a VM of the name "%s" is not started' % name, alice.text('dialog'))
    ok(not b.js("return document.querySelectorAll('dialog b').length"), '... and no name is HTML')
    alice.fill('Disk image', '/home/alice/a,b c.qcow2')
    ok("'file=/home/alice/a,,b c.qcow2,if=virtio'" in b.js("return document.querySelector('dialog textarea').value"),
       'a comma and a blank of a disk name reach QEMU as they are')
    alice.fill('Name', 'again')
    alice.fill('Command of the VM', 'qemu-system-x86_64 "half')
    alice.click('Start')
    ok(alice.wait(lambda: alice.refuses('without its second')), 'half a quotation is not started', alice.text('dialog'))
    alice.fill('Name', 'first')
    alice.fill('Command of the VM', vm)
    alice.click('Start')
    ok(alice.wait(lambda: alice.refuses('stop it first')), 'nor a second VM of the name of one that runs', alice.text('dialog'))
    alice.fill('Name', 'again')
    alice.fill('Command of the VM', '/nowhere/<i>qemu')
    alice.click('Start')
    ok(alice.sees('/nowhere/<i>qemu', 120, 'dialog .progress'), 'a command that is not there fails with its reason', alice.text('dialog'))
    alice.click('Close')
    ok(agent.until('is_back $gpu2 bochs-drm'), '... and the GPU is with the host again')


def alice_goes_while_she_waits(agent, b):
    agent.run('(setsid ./as bob unlimited gpubroker run --gpu 02:00.0 -- sleep 1000 >/dev/null 2>&1 & echo $! >/tmp/bobs)')
    alice = Page(b, 'alice')
    ok(alice.wait(lambda: alice.has('Wait for ' + gpu2)), 'what bob has can be waited for', alice.text())
    alice.click('Wait for ' + gpu2)
    # The name of the VM that failed.
    alice.fill('Name', 'again')
    # Its guest yields a device that it is asked for.
    alice.fill('Command of the VM', vm.replace('append stay', 'append yield').replace('/serial', '/serial2'))
    alice.click('Start')
    ok(alice.sees('place 1 in the queue', 60, 'dialog'), 'the name of a VM that failed is free, and its steps are gone', alice.text('dialog'))
    ok(alice.sees('bob has it', 30, 'dialog'), '... and who waits sees for whom', alice.text('dialog'))
    alice.shot('waits')


def alice_finds_it_granted(agent, b):
    ok(agent.run('gpubroker leases --waiting --json | grep -q 0000:02:00.0')[0] == 0, 'a claim waits on when its browser is closed')
    agent.run('kill $(cat /tmp/bobs)')
    ok(agent.until("gpubroker leases --json | tr -d ' \\n' | grep -qE '\"uid\":1000[^}]*0000:02:00.0'"), '... and gets the GPU, without a browser',
       agent.run('gpubroker leases --json; gpubroker leases --waiting')[1])
    alice = Page(b, 'alice')
    alice.tab('Your VMs')
    alice.click('Progress of again')
    ok(alice.sees('The VM runs with its GPU.', 60, 'dialog'), 'whoever comes back sees how it went', alice.text('dialog'))
    ok('place 1' in alice.text('dialog'), '... from its wait on', alice.text('dialog'))
    alice.click('Close')
    ok(agent.until('grep -q END /home/alice/serial2'), 'the guest is up')
    alice.tab('Devices')
    alice.click('Give back ' + gpu2)
    ok(agent.until('is_back $gpu2 bochs-drm'), 'she gives the GPU back, and the guest yields it', agent.run('cat /home/alice/serial2')[1])
    ok(alice.wait(lambda: alice.has('Start a VM with ' + gpu2)), '... which the page shows', alice.text())
    alice.tab('Your VMs')
    alice.click('Stop again')
    ok(agent.until('! runuser -u alice -- env XDG_RUNTIME_DIR=/run/user/$(id -u alice) systemctl --user is-active gpubroker-vm-again'), 'her VM, which has gone on without it, is stopped')


def bob_cannot(agent, b):
    bob = Page(b, 'bob')
    ok(bob.sees('alice has it since'), 'bob sees that alice has a card', bob.text())
    ok(not bob.has('Give back ' + gpu) and not bob.has('Revoke ' + gpu), '... and has no button that would end her lease')
    said = bob.spawn('gpubroker', 'release', '1')
    ok(said.startswith('failed') and agent.run("gpubroker leases --json | grep -q '\"uid\":1000'")[0] == 0,
       'a script in his page cannot end it either', said)
    said = bob.spawn('gpubroker', 'revoke', '1')
    ok(said.startswith('failed') and 'root' in said, '... nor revoke it', said)
    ok(not bob.has('Start a VM with ' + prepared), 'what no rule lets him claim has no button')
    bob.tab('Policy')
    ok(bob.sees('it takes administrative access'), 'the policy is not for him')
    bob.tab('Doctor')
    ok(bob.sees('PASS'), 'doctor examines the host for him', bob.text())
    bob.shot('doctor')


def alice_again(agent, b):
    ok(agent.run("gpubroker leases --json | grep -q '\"state\":\"leased\"'")[0] == 0, 'her VM has outlived the browser')
    alice = Page(b, 'alice')
    alice.tab('Your VMs')
    alice.click('Stop first')
    alice.tab('Devices')
    ok(alice.sees('Start a VM', 60), 'she stops her VM')
    ok(agent.until('has_driver $gpu bochs-drm'), '... and the device is back on its host driver')
    alice.tab('History')
    ok(alice.sees('0000:01:00.0') and b.js("return document.querySelectorAll('svg rect').length") >= 1, 'the history draws her lease', alice.text())
    alice.shot('history')


def admin_rules(agent, b):
    admin = Page(b, 'admin', admin=True)
    admin.tab('Policy')
    if not ok(admin.sees('Save and load'), 'an administrator gets the policy', admin.text()):
        return
    content = agent.run('cat /etc/gpubroker/policy.d/run-web.policy')[1]
    before = agent.run('sha256sum </etc/gpubroker/policy.d/run-web.policy')[1]

    def write(text):
        b.js("const t = document.getElementById('policy-text'); t.value = arguments[0]; t.dispatchEvent(new Event('input'))", text)

    write(content + '\nallow user bob clam card\n')
    admin.click('Save and load')
    ok(admin.sees('clam', 30, '.verdict'), 'a mistake is shown with its place', admin.text('.verdict'))
    admin.shot('policy')
    ok('clam' not in agent.run('cat /etc/gpubroker/policy.d/run-web.policy')[1], '... and is not saved')
    odd = content + '\n# <img src=x onerror=alert(1)> \u202e \U0001f600 ' + "'; rm -rf / #" + '\n'
    write(odd + '<script>alert(1)</script>\n')
    admin.click('Save and load')
    ok(admin.sees('<script>', 30, '.verdict') and not b.js("return document.querySelectorAll('main script, main img').length"),
       'HTML in a text is shown as text', admin.text('.verdict'))
    write(content + '\n# ' + 5000 * 'a' + '\n')
    admin.click('Save and load')
    ok(admin.sees('4096 bytes in a line', 30, '.verdict'), 'a line without end has its sentence', admin.text('.verdict'))
    ok(agent.run('sha256sum </etc/gpubroker/policy.d/run-web.policy')[1] == before, '... and nothing of these is saved')
    write(odd)
    admin.click('Save and load')
    ok(agent.until("grep -q onerror /etc/gpubroker/policy.d/run-web.policy"), 'an odd comment is a comment', admin.text('.verdict'))
    ok(odd.rstrip('\n') == agent.run('cat /etc/gpubroker/policy.d/run-web.policy')[1], '... and is saved as it was written')
    write(content + '\nallow user bob claim card\n')
    admin.click('Save and load')
    ok(agent.until('grep -q "bob claim card" /etc/gpubroker/policy.d/run-web.policy'), 'a text without is saved')
    ok(agent.until('runuser -u bob -- gpubroker policy what | grep -q 01:00.0'), '... and in force')
    admin.fill('User', 'bob')
    admin.fill('Device', '0000:01:00.0')
    admin.click('Explain')
    ok(admin.sees('run-web.policy', 30, '.verdict'), 'explain says which rule decides', admin.text('.verdict'))
    agent.run('(setsid runuser -u bob -- gpubroker run --gpu 02:00.0 -- sleep 600 >/dev/null 2>&1 &)')
    admin.tab('Devices')
    admin.click('Revoke ' + gpu2)
    admin.fill('After', '0s')
    b.click(b.xpath("//label[.='End its processes if they do not let go']"))
    admin.fill('Between SIGTERM and SIGKILL', '1s')
    admin.click('Revoke')
    ok(agent.until('! gpubroker leases --json | grep -q 0000:02:00.0', 90), 'a lease of bob is revoked, with its program')
    admin.click('Give %s back to its host driver' % prepared)
    admin.click('Give to its host driver')
    ok(agent.until('has_driver 0000:08:00.0 bochs-drm'), 'a prepared device is given to its host driver')
    ok(admin.has('Put %s on VFIO' % prepared) or admin.sees('Prepare'), '... and can be prepared again')
    admin.click('Put %s on VFIO' % prepared)
    admin.click('Prepare')
    ok(agent.until('has_driver 0000:08:00.0 vfio-pci'), '... and is', admin.text())


def a_stuck_device(agent, b):
    device, hang = '0000:03:00.0', '/sys/module/gpubroker_test/parameters/hang_remove'
    title = '(%s)' % device
    status, output = agent.run('insmod /tests/gpubroker_test.ko && has_driver %s gpubroker_test' % device)
    if not ok(status == 0, 'a host driver that hangs has a device', output):
        return
    alice = Page(b, 'alice')
    b.click(alice.wait(lambda: b.css('#all')))
    can_start = lambda: b.js("""return [...document.querySelectorAll('button')].some(b =>
        (b.ariaLabel || '').startsWith('Start a VM with ') && b.ariaLabel.endsWith(arguments[0]))""", title)
    ok(alice.wait(can_start), 'she may have it')
    agent.run('echo %s >%s' % (device, hang))
    agent.run('(setsid runuser -u alice -- gpubroker run --gpu %s -- true >/tmp/stuck.log 2>&1 &)' % device)
    ok(alice.sees('Stuck', 180, '.card.bad'), 'a device whose driver does not let go of it is stuck, without a reload', alice.text())
    ok(alice.sees('%s: unbind' % device, 60, '.card.bad'), '... and its card names the step that hangs', alice.text('.card.bad'))
    ok(not can_start(), '... and has no button that would claim it')
    ok(alice.has('Start a VM with ' + gpu), '... while another card can be claimed as before')
    alice.shot('stuck')
    alice.tab('Leases and queue')
    ok(alice.sees('stuck'), 'so does the list of leases', alice.text())
    ok(alice.sees('unbind'), '... with its reason')
    alice.shot('stuck-lease')
    alice.tab('Devices')
    agent.run('echo >%s' % hang)
    ok(alice.wait(can_start, 180), 'when the kernel lets go, it can be claimed, without a reload')
    ok('Stuck' not in alice.text(), '... and is not stuck any more')
    ok(agent.until('is_back %s gpubroker_test && rmmod gpubroker_test' % device), 'the host has it back')


agent = Agent()
try:
    for part in (alice_claims, alice_asks_oddly, alice_goes_while_she_waits, alice_finds_it_granted, bob_cannot, alice_again,
                 a_stuck_device, admin_rules):
        with Browser(log=os.path.join(shots, 'chromedriver.log')) as browser:
            try:
                part(agent, browser)
            except Exception:
                ok(False, '%s came to its end' % part.__name__, traceback.format_exc())
                try:
                    browser.shot(os.path.join(shots, 'failed-%s.png' % part.__name__))
                    print('#   ' + browser.js('return document.body.innerText').replace('\n', '\n#   ')[:2000])
                except Failed:
                    pass
            bad = [entry['message'] for entry in browser.console() if 'Content Security' in entry['message'] or 'gpubroker/' in entry['message']]
            ok(not bad, '%s: the browser had nothing to object' % part.__name__, *bad)
finally:
    print('1..%d' % n, flush=True)
    agent.ask(end=1 if failed else 0)
sys.exit(1 if failed else 0)
