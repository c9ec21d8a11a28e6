"""Recount: does an idea for cheaper language-model inference really pay?"""
