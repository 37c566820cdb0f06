"""Votes: what to ask, how answers are taken, and what they say.

    desk        questions to raters and their answers, each stored once
    choosing    which pair teaches most
    strengths   Bradley-Terry with ties: scores and standard errors
    combining   vote scores and automatic scores as one
    agreement   how far raters agree, with themselves and with each other

Nothing here needs torch or gradio.
"""

from flowdesign.votes.agreement import Agreement, Tally, krippendorff
from flowdesign.votes.blind import NoImage, blind
from flowdesign.votes.book import Standing
from flowdesign.votes.choosing import Chooser, Chosen, Group
from flowdesign.votes.combining import combine
from flowdesign.votes.desk import Answered, BadAnswer, Desk, Gone
from flowdesign.votes.scoring import SCORER, fit, store_scores
from flowdesign.votes.strengths import Outcome, Strength, Strengths, bradley_terry
from flowdesign.votes.tickets import Kind, Question, Ticket, UnknownTicket

__all__ = [
    "SCORER",
    "Agreement",
    "Answered",
    "BadAnswer",
    "Chooser",
    "Chosen",
    "Desk",
    "Gone",
    "Group",
    "Kind",
    "NoImage",
    "Outcome",
    "Question",
    "Standing",
    "Strength",
    "Strengths",
    "Tally",
    "Ticket",
    "UnknownTicket",
    "blind",
    "bradley_terry",
    "combine",
    "fit",
    "krippendorff",
    "store_scores",
]
