"""The words that `rules` reads English policy by: verbs, agents, subordinators, and the table of topics.

Closed lists rather than a tagger: a clause must come out the same on every machine and version, offline, with nothing to download.
Coverage is what policies use; a word that is missing makes a sentence stay whole or go uncompiled, never change its meaning.
"""

from __future__ import annotations

# Verbs in base form that are hardly ever nouns or adjectives.
VERBS = frozenset(
    """
    abide accept accommodate accompany achieve acknowledge acquire adapt add adhere adjust administer admit adopt
    advertise advise affirm agree aid aim align allege allocate allow alter amend amplify analyse analyze announce
    anonymise anonymize answer anticipate apologise apologize appear apply appoint approve archive arrange articulate
    ascertain ask assemble assert assess assign assist assume assure attain attempt attend attribute authenticate
    authorise authorize automate avoid back backup balance ban base be become begin behave believe belong block breach
    bring broaden browse build bypass calculate call cancel carry categorize cause cease celebrate censor certify
    choose circumvent cite clarify classify coerce collaborate collect combine come comfort commence commit
    communicate compare compensate complement complete comply compute conceal concede conclude condemn condone confer
    confirm confront confuse congratulate connect consent consider constrain construct consult contact contain
    contextualize continue contradict contribute convert convey convince cooperate coordinate correct cover create
    criticise criticize cross-check cultivate customize de-escalate deal deceive decide decline decrease decrypt
    deduct defend defer define delegate delete deliver demean demonstrate deny depart depend depict deploy deprecate
    deprive derive describe destroy detect determine develop deviate diagnose differentiate diminish direct disable
    disagree discard disclose discontinue discourage discredit discriminate discuss disguise dismiss disparage
    dispatch dispose disregard disseminate distinguish distort distribute disturb divulge document double-check
    downplay draw drop educate elaborate elevate eliminate embarrass empathise empathize emphasise emphasize employ
    empower enable encode encourage encrypt endanger endeavor endeavour endorse enforce engage enhance enlist ensure
    enter entertain enumerate equip err escalate escort establish evade evaluate exaggerate examine exceed exclude
    execute exercise exert exhibit expand expect explain exploit explore expose express extend extract fabricate
    facilitate fact-check fail falsify familiarize favor favour feign fight file fill filter finalize find finish fix
    flag flatter focus follow forbid forward foster frame frighten fulfil fulfill gather generate get give glorify go
    govern grant greet guarantee guess handle harass harm have hear hedge help hide highlight hinder hint honor honour
    identify ignore illustrate imitate impersonate implement imply impose improve incite include incorporate increase
    indicate infer inflict inform infringe inhibit initiate insert insist inspect install instruct insult integrate
    interact interfere interject interpret interrupt intervene intimidate introduce invade invent investigate invite
    invoke involve isolate issue join joke judge justify keep know label laugh lead learn leave lecture let leverage
    lie limit link lint listen locate log loosen lower maintain make manage manipulate mask match maximise maximize
    mention merge mimic minimise minimize mirror mislead misrepresent misstate mitigate mock moderate modify monitor
    moralize mourn name narrow navigate neglect negotiate normalize notice notify obey obfuscate object obscure observe
    obstruct obtain offer omit open operate oppose optimise optimize organise organize originate outline output
    overcome overlook override oversee overstate overstep overwrite own paraphrase participate pass patronize pause
    perform permit persist persuade phrase pick placate place plan play point portray possess post postpone practice
    praise pre-approve preach predict prefer prejudge prepare prescribe present preserve pressure presume pretend
    prevent prioritise prioritize probe proceed process procure produce profile prohibit promise promote prompt
    propagate propose protect prove provide publish purge pursue push put qualify query quote raise re-check reach
    reaffirm realize reason reassure rebase recall receive recognise recognize recommend reconcile record recruit
    redact redirect reduce refer reflect refrain refund refuse refute regard register regulate reinforce reject relate
    relay release rely remain remark remedy remember remind remove render repeat rephrase replace reply report
    represent reproduce request require resist resolve resort respect respond restart restate restore restrict retain
    retaliate retrieve return reuse reveal reverse revert review revise revoke reward rewrite ridicule risk
    romanticize rotate route safeguard sanitize satisfy say scale scan scold score screen search secure see seek
    select sell send sensationalize separate serve set settle shame shape share sharpen shut shy sign signal simplify
    simulate skip soften solicit solve span speak specify speculate spell spread state stay steer stereotype stick
    stigmatize stop store strengthen strive structure submit substitute succeed suggest suit summarise summarize
    supervise supply suppress surface surprise suspend sustain swap synthesize tag tailor take talk target teach tell
    terminate test thank threaten tolerate tone trace track trade train transcribe transfer transform translate
    transmit transport treat trick trigger trivialize try turn undermine understand undertake unsubscribe update
    uphold upload urge use utilise utilize validate value verify veto view violate visit voice volunteer vouch wait
    waive warn watch weaken weigh welcome withdraw withhold withstand work worsen wrap write yield
    """.split()
)

# Of those, the ones that are also common nouns or adjectives: taken as verbs only where the next word shows it.
NOUN_VERBS = frozenset(
    """
    access address aid aim answer archive attempt back backup balance ban base block breach call cancel cause censor
    change comment commit complement complete conduct conflict consent contact contract control correct cover deal
    direct dispatch document draw drop escort exercise exploit favor favour fight file fill filter fix flag focus
    frame grant guarantee guess guide harm hedge help hint honor honour impact influence insult issue joke judge label
    laugh lead leave lecture lie limit link lint log lower mask match measure mention merge mirror mock moderate
    monitor name narrow need notice object offer open output own pass pause permit phrase pick place plan play point post
    practice praise present pressure probe process profile project promise prompt purge push query question quote
    raise rally reason rebase record refund regard register release remark remedy reply report request respect result
    return reverse review reward ridicule risk route sample scale scan score screen search secure separate set shame
    shape share show sign signal span spell state stereotype stop store structure suit supply support surface surprise
    swap tag target test tone trace track trade train transfer transport trick trigger turn update upload use value
    veto view visit voice volunteer wait watch welcome work yield
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
    learn remember encourage waste conflict harm""".split()
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
