"""The words that `rules` reads English policy by: verbs, agents, subordinators, and the table of topics.

Closed lists rather than a tagger: a clause must come out the same on every machine and version, offline, with nothing to download.
Coverage is what policies use; a word that is missing makes a sentence stay whole or go uncompiled, never change its meaning.
"""

from __future__ import annotations

# Verbs in base form that are hardly ever nouns or adjectives.
VERBS = frozenset(
    """
    abide abstain accept accommodate accompany accrue achieve acknowledge acquire adapt add adhere adjourn adjust
    administer admit adopt advertise advise affirm affix agree aid aim alert align allege allocate allow alter amend
    amplify analyse analyze announce anonymise anonymize answer anticipate apologise apologize appear apply appoint
    approve archive arrange articulate ascertain ask assemble assert assess assign assist assume assure attain attempt
    attend attest attribute audit authenticate authorise authorize automate avoid award back backup balance ban base
    be become begin behave believe belong bid bill block book breach bribe bring broadcast broaden browse build buy
    bypass calculate call cancel carry categorize cause cease celebrate censor certify charge choose circumvent cite
    claim clarify classify clean clear climb coerce collaborate collect collude combine come comfort commence commit
    communicate compare compensate compile complement complete comply compute conceal concede conclude condemn condone
    confer confirm confiscate confront confuse congratulate connect consent consider constrain construct consult
    contact contain contextualize continue contradict contribute convene convert convey convince cooperate coordinate
    copy correct counsel cover create credit criticise criticize cross-check cultivate customize de-escalate deal
    debit deceive decide decline decrease decrypt deduct defend defer define delay delegate delete deliver demean
    demolish demonstrate deny depart depend depict deploy deposit deprecate deprive deputize derive describe destroy
    detach detain detect determine develop deviate diagnose differentiate diminish direct disable disagree disarm
    disassemble discard discharge disclose disconnect discontinue discount discourage discredit discriminate discuss
    disguise dismantle dismiss disparage dispatch display dispose disregard disseminate distinguish distort distribute
    disturb divert divulge document donate double-check download downplay draw drink drive drop duplicate earn eat
    educate eject elaborate elect elevate eliminate embarrass embed empathise empathize emphasise emphasize employ
    empower enable encode encourage encrypt endanger endeavor endeavour endorse endure enforce engage enhance enlist
    ensure enter entertain enumerate equip erase erect err escalate escort establish evacuate evade evaluate
    exaggerate examine exceed exchange exclude execute exercise exert exhibit expand expect expedite expel explain
    exploit explore expose express extend extract fabricate facilitate fact-check fail falsify familiarize fasten
    favor favour feign fight file fill filter finalize find fine finish fix flag flatter focus follow forbid forfeit
    forge format forward foster frame frighten fulfil fulfill fund gamble gather generate get give glorify go gossip
    govern grant greet guarantee guess hack halt handle harass harm harvest have hear heat hedge help hide highlight
    hinder hint hire honor honour host identify ignore illustrate imitate impersonate implement imply impose impound
    improve incite include incorporate increase incur indemnify indicate infer inflict inform infringe inhibit
    initiate insert insist inspect install instruct insult insure integrate interact interfere interject interpret
    interrupt intervene interview intimidate introduce invade invent inventory invest investigate invite invoice
    invoke involve isolate issue itemize jeopardize join joke judge justify keep kill know label land laugh launder
    lead leak learn lease leave lecture lend let leverage lie lift limit link lint listen litter load lobby locate
    lock log loiter loosen lower mail maintain make manage manipulate march mask match maximise maximize mediate
    mention merge mimic mine minimise minimize mirror misappropriate mislead misrepresent misstate mistreat misuse
    mitigate mobilize mock moderate modify monitor moralize mourn name narrow navigate neglect negotiate nominate
    normalize notice notify number obey obfuscate object obscure observe obstruct obtain occupy offer omit open
    operate oppose optimise optimize order organise organize originate outline output outsource overcharge overcome
    overload overlook overpay override oversee overstate overstep overwrite owe own pack paint paraphrase park
    participate pass patent patronize pause pay perform permit persist persuade photograph phrase pick pilot placate
    place plagiarize plan play pledge point pool portray possess post postpone practice praise pre-approve preach
    predict prefer prejudge prepare prescribe present preserve pressure presume pretend prevent print prioritise
    prioritize probe proceed process procure produce profile prohibit promise promote prompt propagate propose
    prosecute protect prove provide publish punish purchase purge pursue push put qualify quarantine query quit quote
    raise rate re-check reach reaffirm realize reapply reason reassign reassure rebase rebook recall receive recognise
    recognize recommend reconcile record recover recruit recuse recycle redact redirect reduce refer reflect refrain
    refund refuse refute regard register regulate reimburse reinforce reinstate reject relate relay release relinquish
    rely remain remark remedy remember remind remove render renew rent repair repay repeat rephrase replace reply
    report repost represent reproduce request require reschedule rescind resell reserve reset resign resist resolve
    resort respect respond restart restate restore restrict retain retaliate retire retrain retrieve return reuse
    reveal reverse reverse-engineer revert review revise revoke reward rewrite ride ridicule rinse risk roll
    romanticize rotate route run safeguard sample sanitize satisfy say scale scan scold score scrape screen scrub seal
    search seat secure see seek seize select self-report sell send sensationalize separate serve set settle shame
    shape share sharpen ship shred shut shy sign signal simplify simulate sing sit skip sleep smoke soften solicit
    solve spam span speak specify speculate spell spend spray spread stack stalk stamp stand start state station stay
    steal steer stereotype sterilize stick stigmatize stock stop store strengthen strike strive structure subcontract
    sublet sublicense submit substitute succeed sue suggest suit summarise summarize summon supervise supply suppress
    surface surprise surrender suspend sustain swap swear sweep switch synthesize tag tailor take talk tamper tap tape
    target tax teach tell terminate test testify thank threaten throw tidy tip tolerate tone tow trace track trade
    traffic train transact transcribe transfer transform translate transmit transport trap travel treat trespass trick
    trigger trivialize try turn type undermine understand undertake unlock unplug unsubscribe update upgrade uphold
    upload urge use utilise utilize vacate vaccinate validate value ventilate verify veto video view violate visit
    voice volunteer vote vouch wait waive walk warn wash waste watch weaken wear weigh welcome weld win wipe wire
    withdraw withhold withstand work worsen wrap write yell yield
    """.split()
)

# Of those, the ones that are also common nouns or adjectives: taken as verbs only where the next word shows it.
NOUN_VERBS = frozenset(
    """
    access address aid aim alert answer archive attempt audit award back backup balance ban base bid bill block book
    breach call cancel cause censor change charge claim clear comment commit complement complete conduct conflict
    consent contact contract control copy correct cover credit deal debit delay deposit direct discharge discount
    dispatch display document draw drink drop escort exchange exercise exploit favor favour fight file fill filter
    fine fix flag focus format frame fund grant guarantee guess guide harm heat hedge help hint honor honour host
    impact influence insult interview inventory invoice issue joke judge label land laugh lead leak lease leave
    lecture lie lift limit link lint load lobby lock log lower mail march mask match measure mention merge mine mirror
    misuse mock moderate monitor name narrow need notice number object offer open order output own pack paint park
    pass patent pause permit phrase pick pilot place plan play pledge point pool post practice praise present pressure
    print probe process profile project promise prompt purchase purge push query question quote raise rally rate
    reason rebase record refund regard register release remark remedy rent repair reply report request reserve reset
    respect result return reverse review reward ride ridicule risk roll route run sample scale scan score screen seal
    search seat secure separate set shame shape share ship show sign signal sleep smoke spam span spell spray stack
    stamp stand start state station stereotype stock stop store strike structure suit supply support surface surprise
    swap sweep switch tag tap tape target tax test tip tone tow trace track trade traffic train transfer transport
    trap travel trick trigger turn type update upgrade upload use value veto video view visit voice volunteer vote
    wait walk wash waste watch welcome wire work yield
    """.split()
)
VERBS = VERBS | NOUN_VERBS

# Third-person agents a policy speaks to. The first set is what the whole document is usually about.
MODEL_AGENTS = frozenset(
    """assistant assistants model models agent agents ai ais chatbot chatbots bot bots llm llms system systems clerk chatgpt claude gemini
    sub-agent sub-agents subagent subagents copilot machine""".split()
)
PRONOUNS = frozenset("it they you he she".split())
OUTSIDERS = frozenset(  # people the rules are about rather than addressed to: their "may" and "can" mostly say what happens
    """user users customer customers people person persons we i developer developers openai company companies requester readers reader
    visitor visitors others humans human attacker attackers party parties third-party student students child children teen teens""".split()
)
ROLE_ENDINGS = ("ers", "ors", "ees", "ists", "ants", "staff", "team", "teams", "members", "member", "employee", "contractor", "manager",
                "operator", "reviewer", "moderator", "maintainer", "officer", "clerk")  # fmt: skip

SUBORDINATORS = frozenset(
    """if when whenever unless whether because since that which who whom whose where wherever what how why until till before after as than
    once lest though""".split()
)
CONCESSIVES = frozenset("while although though whereas".split())  # "While X should A, it must not B": both halves bind
COORDINATORS = frozenset("and or but nor yet so".split())
LEADING = frozenset(  # a word that opens an adverbial before the subject
    """if when whenever unless where wherever in for on at with without by as during after before under within to given once while although
    upon from despite following depending instead rather beyond outside except regardless because since until whether
    generally typically ideally additionally finally similarly otherwise thus therefore moreover furthermore likewise
    """.split()
)
DETERMINERS = frozenset(
    """the a an any all each every its their your his her our my this that these those some no such both another it them him us you me
    whether what how anything nothing everything something""".split()
)
CONDITIONS = frozenset("if when unless for where whenever in".split())  # open a condition that later clauses share
SEQUENCERS = frozenset(  # adverbs that may stand before a coordinated verb
    """also then instead not never always only just simply either otherwise thus therefore further furthermore first finally next rather
    still even where when at ideally additionally at""".split()
) - {"where", "when", "at"}

# After "may"/"can" these say what can happen, not what is permitted.
HAPPENINGS = frozenset(
    """have face encounter need understand know see receive feel seem appear look become cause contain include lead result lack miss fail
    misunderstand forget differ vary arise occur happen exist depend pose require involve benefit experience notice find think believe
    interact possess struggle suffer come tend get hold incur hallucinate err mean indicate prove help expect lose gain grow sound
    learn remember encourage waste conflict harm drift malfunction stumble wonder crash freeze matter remain belong possess
    resemble want like hope wish prefer struggle differ lag sound""".split()
)
HAPPENING_ADVERBS = frozenset(
    """sometimes often typically occasionally rarely inadvertently unknowingly accidentally well already unintentionally implicitly seldom
    easily eventually likely potentially mistakenly erroneously""".split()
)
OPENERS = frozenset(  # imperatives addressed to the reader of the document, not rules
    "see note consider recall imagine suppose refer read compare think observe notice thank visit have want click".split()
)
NEGATIVE_INDUCERS = frozenset(  # "refuse to A and B": B belongs under the verb, and must not be split off as a duty of its own
    "refuse decline fail cease stop forbid prevent prohibit discourage neglect omit avoid refrain help let allow permit enable".split()
)

# Categories of harm, by the words of the headings that rules stand under; the first that matches counts. Names as in assistant.yaml.
TOPICS: tuple[tuple[str, str], ...] = (
    (
        "child-safety",
        r"csam|sexual content involving minors|child(?:ren)?(?:'s)? (?:sexual|abuse|exploitation|safety)|sexuali[sz]\w+ minors",
    ),
    (
        "mass-casualty-weapons",
        r"\bcbrn\b|(?:chemical|biological|radiological|nuclear) (?:weapons?|or|and)|mass[- ]casualty",
    ),
    ("weapons-and-explosives", r"weapons?\b|explosives?\b|bombs?\b"),
    ("malware", r"malware|ransomware|virus(?:es)?\b"),
    ("cyber-attacks", r"cyber|hacking|intrusion|denial of service"),
    ("self-harm", r"self-?harm|suicid|eating disorder"),
    ("terrorism-and-extremism", r"extremis[mt]|terroris[mt]|radicali[sz]"),
    ("hate", r"\bhate(?:ful)?\b|protected groups?|slurs?\b"),
    ("unfair-discrimination", r"discriminat|\bfairness\b|\bbias(?:es|ed)?\b"),
    ("harassment", r"harass|bully|\babus(?:e|ive)\b|doxx"),
    ("sexual-content", r"erotica|\bsexual(?:ly)?\b|porn|\bnud(?:e|ity)\b"),
    ("violence", r"violen(?:t|ce)|\bgore\b|physical harm"),
    ("illegal-drugs", r"\bdrugs?\b|narcotic"),
    ("fraud-and-scams", r"\bfraud|scams?\b|phishing|deceptive practices"),
    ("illicit-behavior", r"illicit|illegal|unlawful|\bcrim(?:e|es|inal)\b"),
    (
        "privacy",
        r"privacy|personal (?:data|information)|private information|confidential|privileged information|data protection",
    ),
    ("intellectual-property", r"copyright|creators and their rights|intellectual property|plagiari|trademark"),
    ("disinformation", r"disinformation|misinformation|propaganda"),
    ("manipulation", r"manipulat"),
    ("professional-advice", r"regulated advice|(?:medical|legal|financial|professional) advice"),
    ("mental-health", r"mental health"),
)
